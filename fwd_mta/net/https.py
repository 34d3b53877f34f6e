"""MTA-STS policies by HTTPS: verified, bounded, never redirected (RFC 8461 3.3).

TLS reports go the other way, and to hosts that prove nothing, too (RFC 8460 3).
Twisted's own HTTP client, over our sockets, resolver and TLS.
"""

from collections.abc import Callable
from io import BytesIO
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Cooperator
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    FileBodyProducer,
    HTTPConnectionPool,
    ResponseDone,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from typing_extensions import override
from zope.interface import implementer

from fwd_mta.interfaces import Network, PolicyHost, ReportHost, Resolver
from fwd_mta.mail.errors import FetchError, Unproved
from fwd_mta.mail.route import Found
from fwd_mta.net.tls import ClientTls, ClientTlsContext
from fwd_mta.rules.exchangers import interleave, is_public

T = TypeVar("T")

_PATH = "/.well-known/mta-sts.txt"
_REPORT = b"application/tlsrpt+gzip"
_LONGEST = 64 * 1024
_PATIENCE = 60.0
_CONNECT = 15.0


class HttpsPolicyHost(PolicyHost):
    """The policy hosts of the world; with `allow_private` those inside, too."""

    def __init__(
        self,
        network: Network,
        resolver: Resolver,
        clock: IReactorTime,
        trust: ClientTlsContext,
        *,
        allow_private: bool = False,
    ) -> None:
        self._clock = clock
        factory = _Endpoints(network, resolver, clock, trust, allow_private)
        self._agent = _agent(clock, factory)

    @override
    async def fetch(self, domain: str) -> str:
        """The policy's text; raises FetchError within a minute."""
        work = Deferred.fromCoroutine(self._fetch(domain))
        return await _in_time(self._clock, work, f"the policy of {domain}")

    async def _fetch(self, domain: str) -> str:
        url = f"https://mta-sts.{domain}{_PATH}".encode("ascii")
        headers = Headers({b"User-Agent": [b"fwd_mta"]})
        response = await self._agent.request(b"GET", url, headers)
        kind = (response.headers.getRawHeaders(b"content-type") or [b""])[0]
        is_text = kind.partition(b";")[0].strip().lower() == b"text/plain"
        if response.code != 200 or not is_text:
            what = f"{response.code} {kind.decode('ascii', 'replace')[:80]}"
            raise FetchError(f"the policy host of {domain} answered {what}")
        body: Deferred[bytes] = Deferred()
        response.deliverBody(_Bounded(body))
        return (await body).decode("utf-8", "replace")


class HttpsReportHost(ReportHost):
    """Whoever asks for TLS reports by HTTPS, proved or not; nothing secret is told."""

    def __init__(
        self,
        network: Network,
        resolver: Resolver,
        clock: IReactorTime,
        trust: ClientTlsContext,
        *,
        allow_private: bool = False,
    ) -> None:
        self._clock = clock
        factory = _Endpoints(
            network, resolver, clock, trust, allow_private, proved=False
        )
        self._agent = _agent(clock, factory)

    @override
    async def post(self, url: str, report: bytes) -> None:
        """Hand a packed report over; raises FetchError within a minute."""
        work = Deferred.fromCoroutine(self._post(url, report))
        await _in_time(self._clock, work, f"a report to {url}")

    async def _post(self, url: str, report: bytes) -> None:
        headers = Headers({b"User-Agent": [b"fwd_mta"], b"Content-Type": [_REPORT]})
        body = FileBodyProducer(BytesIO(report), Cooperator(scheduler=self._soon))
        response = await self._agent.request(b"POST", url.encode(), headers, body)
        response.deliverBody(_Unheard())
        if not 200 <= response.code < 300:
            raise FetchError(f"answered {response.code}")

    def _soon(self, work: Callable[[], None]) -> IDelayedCall:
        return self._clock.callLater(0, work)


def _agent(clock: IReactorTime, factory: "_Endpoints") -> Agent:
    pool = HTTPConnectionPool(clock, persistent=False)
    agent: Agent = Agent.usingEndpointFactory(clock, factory, pool)
    return agent


async def _in_time(clock: IReactorTime, work: Deferred[T], what: str) -> T:
    """What the work gives; FetchError when it fails, or takes a minute."""
    timer = clock.callLater(_PATIENCE, work.cancel)
    try:
        return await work
    except CancelledError:
        raise FetchError(f"{what}: not within 60 seconds") from None
    except FetchError:
        raise
    except Exception as error:
        raise FetchError(f"{what}: {error}") from error
    finally:
        if timer.active():
            timer.cancel()


class _Unheard(Protocol):
    """Ends the connection: what else is said is of no interest."""

    @override
    def connectionMade(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class _Bounded(Protocol):
    """Collects a body up to the limit."""

    transport: Any

    def __init__(self, done: Deferred[bytes]) -> None:
        self._done = done
        self._octets = b""

    @override
    def dataReceived(self, data: bytes) -> None:
        self._octets += data
        if len(self._octets) > _LONGEST and not self._done.called:
            self._done.errback(FetchError("the policy is longer than 64 KiB"))
            self.transport.abortConnection()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._done.called:
            return
        if reason.check(ResponseDone):
            self._done.callback(self._octets)
        else:
            self._done.errback(FetchError("the policy was cut short"))


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Makes the one way to connect: TLS, verified where that is asked for."""

    def __init__(
        self,
        network: Network,
        resolver: Resolver,
        clock: IReactorTime,
        trust: ClientTlsContext,
        allow_private: bool,
        *,
        proved: bool = True,
    ) -> None:
        self.proved = proved
        self.network = network
        self.resolver = resolver
        self.clock = clock
        self.trust = trust
        self.allow_private = allow_private

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802 - Twisted's
        """An endpoint for the host of a URI."""
        return _Endpoint(self, uri.host.decode("ascii"), uri.port)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, of: _Endpoints, host: str, port: int) -> None:
        self._of = of
        self._host = host
        self._port = port

    def connect(
        self,
        protocolFactory: IProtocolFactory,  # noqa: N803 - Twisted's
    ) -> Deferred[IProtocol]:
        """Connect, shake hands, judge the certificate; only then HTTP begins."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, http: IProtocolFactory) -> IProtocol:
        answer = await self._of.resolver.addresses(self._host)
        found = answer.records if isinstance(answer, Found) else ()
        usable = [
            each
            for each in found
            if self._of.allow_private or is_public(each, frozenset())
        ]
        if not usable:
            raise FetchError(f"{self._host} has no address to be used")
        fault: Exception = FetchError("no address")
        for address in interleave(usable):
            try:
                return await self._at(address, http)
            except (ConnectError, FetchError) as error:
                fault = error
        raise fault

    async def _at(self, address: str, http: IProtocolFactory) -> IProtocol:
        of = self._of
        creator = of.trust.towards(self._host)
        gate = _Gate(creator, proved=of.proved)
        wrapped = TLSMemoryBIOFactory(
            creator, True, Factory.forProtocol(lambda: gate), of.clock
        )
        await of.network.connect(address, self._port, wrapped, _CONNECT)
        await gate.passed
        protocol = http.buildProtocol(None)  # type: ignore[arg-type]
        if protocol is None:
            raise FetchError("the HTTP client gave up")
        gate.inner = protocol
        protocol.makeConnection(gate.transport)
        return protocol


@implementer(IHandshakeListener)
class _Gate(Protocol):
    """Lets HTTP begin behind a handshake; with `proved` one that proved the name."""

    transport: Any

    def __init__(self, creator: ClientTls, *, proved: bool) -> None:
        self._proved = proved
        self.passed: Deferred[None] = Deferred()
        self.inner: IProtocol | None = None
        self._creator = creator

    def handshakeCompleted(self) -> None:
        """Judge the certificate."""
        fault = self._creator.fault(self.transport) if self._proved else None
        if fault is None:
            self.passed.callback(None)
        else:
            self.passed.errback(Unproved(f"{self._creator.name}: {fault}"))
            self.transport.abortConnection()

    @override
    def dataReceived(self, data: bytes) -> None:
        if self.inner is not None:
            self.inner.dataReceived(data)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.inner is not None:
            self.inner.connectionLost(reason)
        elif not self.passed.called:
            lost = reason.value or ConnectionLost()
            self.passed.errback(FetchError(f"{self._creator.name}: {lost}"))
