"""A small DNS server on loopback, over UDP and TCP, that can misbehave by name."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
from dns.rdatatype import RdataType
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from typing_extensions import override

from fwd_mta.net.network import Reactor

reactor = cast("Reactor", global_reactor)

Zone = Mapping[str, Sequence[tuple[str, str]]]


class FakeDns:
    """Answers from a zone: name to (type, text) pairs; `asked` holds the questions.

    A name that begins with "refused", "silent", "garbage", "forged" or "big" (truncated
    over UDP), or that has "servfail" in it, is answered so.
    """

    def __init__(self, zone: Zone, ttl: int = 300) -> None:
        self.zone = {name.lower(): list(records) for name, records in zone.items()}
        self.ttl = ttl
        self.authentic = False
        self.asked: list[tuple[str, str, str]] = []
        self.port = 0
        self._ports: list[Any] = []
        self._streams: set[_Stream] = set()

    def start(self) -> None:
        """Listen on one free port number, over both UDP and TCP."""
        for _ in range(20):
            factory: Any = Factory.forProtocol(lambda: _Stream(self))
            stream: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
            self.port = stream.getHost().port
            try:
                datagram = reactor.listenUDP(
                    self.port, _Datagram(self), "127.0.0.1", 8192
                )
            except CannotListenError:
                stream.stopListening()
                continue
            self._ports = [stream, datagram]
            return
        raise AssertionError("no port was free for both UDP and TCP")

    def stop(self) -> Deferred[list[None]]:
        """Close everything."""
        gone = [maybeDeferred(port.stopListening) for port in self._ports]
        for stream in list(self._streams):
            gone.append(stream.gone)
            stream.drop()
        return gatherResults(gone)

    def opened(self, stream: "_Stream") -> None:
        """A client came over TCP."""
        self._streams.add(stream)

    def closed(self, stream: "_Stream") -> None:
        """It went."""
        self._streams.discard(stream)

    def answer(self, wire: bytes, how: str) -> bytes | None:
        """Answer one question that came over "udp" or "tcp"."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype), how))
        reply = dns.message.make_response(query)
        if self.authentic:
            reply.flags |= dns.flags.AD
        if name.startswith("silent"):
            return None
        if name.startswith("garbage"):
            return b"\xff" * 40
        if "servfail" in name:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif name.startswith("refused"):
            reply.set_rcode(dns.rcode.REFUSED)
        elif name.startswith("big") and how == "udp":
            reply.flags |= dns.flags.TC
        else:
            self._fill(reply, name, question.rdtype)
        if name.startswith("forged"):
            reply.id = (reply.id + 1) % 65536
        return reply.to_wire(max_size=1232 if how == "udp" else 65535)

    def _fill(self, reply: dns.message.Message, name: str, kind: RdataType) -> None:
        for _ in range(20):
            if name not in self.zone:
                reply.set_rcode(dns.rcode.NXDOMAIN)
                break
            records = self.zone[name]
            alias = [text for of, text in records if of == "CNAME"]
            wanted = "CNAME" if alias else dns.rdatatype.to_text(kind)
            texts = [text for of, text in records if of == wanted]
            if texts:
                made = dns.rrset.from_text_list(
                    name + ".", self.ttl, "IN", wanted, texts
                )
                reply.answer.append(made)
            if not alias:
                break
            name = alias[0].removesuffix(".").lower()
        if not reply.answer or reply.rcode() != dns.rcode.NOERROR:
            soa = f"ns.example. h.example. 1 2 3 4 {self.ttl}"
            reply.authority.append(
                dns.rrset.from_text("example.", self.ttl, "IN", "SOA", soa)
            )


class _Datagram(DatagramProtocol):
    def __init__(self, server: FakeDns) -> None:
        self._server = server

    @override
    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        answer = self._server.answer(datagram, "udp")
        transport: Any = self.transport
        if answer is not None:
            transport.write(answer, addr)


class _Stream(Protocol):
    def __init__(self, server: FakeDns) -> None:
        self._server = server
        self._octets = b""
        self.gone: Deferred[None] = Deferred()

    def drop(self) -> None:
        """Close the connection."""
        transport: Any = self.transport
        transport.abortConnection()

    @override
    def connectionMade(self) -> None:
        self._server.opened(self)

    @override
    def connectionLost(self, reason: Any = None) -> None:
        self._server.closed(self)
        self.gone.callback(None)

    @override
    def dataReceived(self, data: bytes) -> None:
        self._octets += data
        length = int.from_bytes(self._octets[:2], "big")
        if len(self._octets) >= 2 + length:
            answer = self._server.answer(self._octets[2 : 2 + length], "tcp")
            if answer is not None:
                transport: Any = self.transport
                transport.write(len(answer).to_bytes(2, "big") + answer)
