"""Scenarios with Postfix: as our next hop, and as a client that submits to us."""

import smtplib
import socket
import ssl
from contextlib import closing
from pathlib import Path

from interop.kit import Workbench, expect, expect_in, expect_same, wait_for
from interop.messages import PASSWORD, SENDER, dotted, latin, plain
from interop.postfix import Postfix
from interop.server import Server
from interop.sink import Caught, Sink

_INBOX = "reader@inbox.example"


def to_a_sink(bench: Workbench) -> None:
    """Awkward content reaches a plain sink byte for byte, whole and in small pieces."""
    sink = bench.keep(Sink())
    server = bench.keep(Server(bench, _relayhost(sink.port)))
    wanted = {name: make(_INBOX, name) for name, make in _AWKWARD.items()}
    for name in ("plain", "dotted", "latin"):
        server.submit(wanted[name], _INBOX)
    server.submit(wanted["dotted-587"], _INBOX, starttls=True)
    for name, piece in _PIECES.items():
        _submit_in_pieces(server, wanted[name], piece)
    _compare(sink, wanted)
    for caught in sink.caught:
        _expect_one_received(caught)


def through_postfix(bench: Workbench) -> None:
    """Awkward content goes through Postfix, which puts its own trace on top only."""
    sink = bench.keep(Sink())
    postfix = bench.keep(
        Postfix(bench.folder / "postfix", f"relayhost = [127.0.0.1]:{sink.port}")
    )
    server = bench.keep(Server(bench, _relayhost(postfix.port)))
    wanted = {name: make(_INBOX, name) for name, make in _AWKWARD.items()}
    for content in wanted.values():
        server.submit(content, _INBOX)
    _compare(sink, wanted)


def through_postfix_tls(bench: Workbench) -> None:
    """A next hop that offers STARTTLS, and takes nothing without it, gets TLS."""
    chain, key = bench.folder / "chain.pem", bench.folder / "key.pem"
    bench.authority.issue(chain, key)
    sink = bench.keep(Sink())
    lines = (
        f"relayhost = [127.0.0.1]:{sink.port}\n"
        "smtpd_tls_security_level = encrypt\n"
        f"smtpd_tls_chain_files = {key}, {chain}\n"
        "smtpd_tls_received_header = yes\n"
    )
    postfix = bench.keep(Postfix(bench.folder / "postfix", lines))
    server = bench.keep(Server(bench, _relayhost(postfix.port)))
    wanted = {"dotted": dotted(_INBOX, "dotted")}
    server.submit(wanted["dotted"], _INBOX)
    _compare(sink, wanted)
    trace = sink.caught[0].content.partition(b"\r\n\r\n")[0].decode()
    expect_in("(using TLSv1.3 ", trace, "the trace field of Postfix")


def to_a_mailbox(bench: Workbench) -> None:
    """By the transport table a message reaches a mailbox that Postfix keeps."""
    boxes = bench.folder / "boxes"
    postfix = bench.keep(Postfix(bench.folder / "postfix", _mailboxes(boxes)))
    table = f'"inbox.example" = "[127.0.0.1]:{postfix.port}"'
    server = bench.keep(Server(bench, {"delivery.transport": table}))
    wanted = plain(_INBOX, "to-a-mailbox")
    server.submit(wanted, _INBOX)
    new = boxes / "reader" / "new"
    arrived = wait_for("the mailbox has the message", lambda: list(new.glob("*")))
    content = arrived[0].read_bytes().replace(b"\n", b"\r\n")
    expect_same(content[-len(wanted) :], wanted, "the message in the mailbox")
    expect_in(f"Return-Path: <{SENDER}>", content.decode(), "the mailbox")


def from_postfix_tls(bench: Workbench) -> None:
    """Postfix submits on our implicit TLS port: SASL, certificate verified."""
    _from_postfix(bench, wrapper=True)


def from_postfix_starttls(bench: Workbench) -> None:
    """Postfix submits on our STARTTLS port: SASL, certificate verified."""
    _from_postfix(bench, wrapper=False)


def _from_postfix(bench: Workbench, *, wrapper: bool) -> None:
    sink = bench.keep(Sink())
    server = bench.keep(Server(bench, _relayhost(sink.port)))
    port = server.submissions if wrapper else server.submission
    lines = _submitting(port, bench.authority.certificate, wrapper=wrapper)
    postfix = bench.keep(Postfix(bench.folder / "postfix", lines))
    wanted = {name: make(_INBOX, name) for name, make in _AWKWARD.items()}
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=60) as session:
        for content in wanted.values():
            session.sendmail(SENDER, _INBOX, content, mail_options=["BODY=8BITMIME"])
    _compare(sink, wanted)
    expect_in("Verified TLS connection established", postfix.maillog(), "Postfix's log")


def _relayhost(port: int) -> dict[str, str]:
    return {"delivery": f'relayhost = "[127.0.0.1]:{port}"'}


def _mailboxes(boxes: Path) -> str:
    boxes.mkdir()
    boxes.chmod(0o777)
    return (
        "virtual_mailbox_domains = inbox.example\n"
        f"virtual_mailbox_base = {boxes}\n"
        "virtual_mailbox_maps = inline:{ {reader@inbox.example=reader/} }\n"
        "virtual_mailbox_limit = 0\n"
        "virtual_minimum_uid = 1000\n"
        "virtual_uid_maps = static:65534\n"
        "virtual_gid_maps = static:65534\n"
    )


def _submitting(port: int, certificate: Path, *, wrapper: bool) -> str:
    return (
        f"relayhost = [127.0.0.1]:{port}\n"
        "smtp_tls_security_level = secure\n"
        "smtp_tls_secure_cert_match = localhost\n"
        f"smtp_tls_CAfile = {certificate}\n"
        f"smtp_tls_wrappermode = {'yes' if wrapper else 'no'}\n"
        "smtp_tls_loglevel = 1\n"
        "smtp_sasl_auth_enable = yes\n"
        "smtp_sasl_security_options = noanonymous\n"
        "smtp_sasl_password_maps = "
        f"inline:{{ {{[127.0.0.1]:{port}={SENDER}:{PASSWORD}}} }}\n"
    )


def _submit_in_pieces(server: Server, content: bytes, piece: int) -> None:
    """Submit it as TLS records of so many octets each where dots stand close."""
    stuffed = content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
    with closing(server.login()) as session:
        sock = session.sock
        expect(isinstance(sock, ssl.SSLSocket), "no TLS on the submissions port")
        if not isinstance(sock, ssl.SSLSocket):
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session.mail(SENDER, ["BODY=8BITMIME"])
        session.rcpt(_INBOX)
        session.putcmd("DATA")
        expect(session.getreply()[0] == 354, "DATA was not taken")
        for start in range(0, len(stuffed), piece):
            sock.sendall(stuffed[start : start + piece])
        code, text = session.getreply()
        expect(code == 250, f"in pieces of {piece}: {code} {text!r}")
        session.quit()


def _compare(sink: Sink, wanted: dict[str, bytes]) -> None:
    """Each message has come exactly once, and ends with exactly what was sent."""
    sink.wait_for(len(wanted), seconds=90)
    names = sorted(caught.field("Subject") for caught in sink.caught)
    expect(names == sorted(wanted), f"the sink has {names}, not {sorted(wanted)}")
    for caught in sink.caught:
        sent = wanted[caught.field("Subject")]
        added = caught.content[: -len(sent)]
        expect_same(caught.content[len(added) :], sent, caught.field("Subject"))
        expect(
            added.startswith(b"Received: ") and added.endswith(b"\r\n"),
            f"on top of {caught.field('Subject')} stands {added[:300]!r}",
        )
        expect(b"\r\n\r\n" not in added, f"an empty line in {added[:300]!r}")
        expect(caught.mail.startswith(f"FROM:<{SENDER}>"), caught.mail)
        expect(caught.recipients[0].startswith(f"TO:<{_INBOX}>"), "another recipient")


def _expect_one_received(caught: Caught) -> None:
    """Ours is the only trace, and it tells neither login nor recipient."""
    head = caught.content.partition(b"\r\n\r\n")[0]
    traces = head.lower().count(b"received: ")
    expect(traces == 1, f"{traces} Received fields: {head[:600]!r}")
    received = head.partition(b"\r\nFrom: ")[0].decode()
    expect_in("by mail.interop.example with ESMTPSA", received, "Received")
    for secret in (SENDER, _INBOX):
        expect(secret not in received, f"{secret} is in {received!r}")


def _short_dotted(recipient: str, name: str) -> bytes:
    """The edges of `dotted`, short enough to be sent octet by octet."""
    head, _, body = dotted(recipient, name).partition(b"\r\n\r\n")
    return head + b"\r\n\r\n" + body[:600] + b"\r\n.\r\n..\r\n.\r\n"


_AWKWARD = {
    "plain": plain,
    "dotted": dotted,
    "latin": latin,
    "dotted-587": dotted,
    "octets": _short_dotted,
    "twos": _short_dotted,
    "threes": _short_dotted,
    "pieces": dotted,
}

_PIECES = {"octets": 1, "twos": 2, "threes": 3, "pieces": 1021}
