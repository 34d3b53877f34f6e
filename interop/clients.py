"""Scenarios with swaks, the client an operator tries a server with."""

import subprocess

from interop.kit import Workbench, expect, expect_in
from interop.messages import PASSWORD, SENDER
from interop.server import Server
from interop.sink import Sink

_INBOX = "reader@inbox.example"


def delivers(bench: Workbench) -> None:
    """Swaks delivers on both ports, with PLAIN and with LOGIN."""
    sink = bench.keep(Sink())
    server = bench.keep(Server(bench, _relayhost(sink.port)))
    for mechanism in ("PLAIN", "LOGIN"):
        for port in (server.submissions, server.submission):
            status, said = _swaks(bench, server, port, mechanism=mechanism)
            expect(status == 0, f"swaks ended with {status}: {said}")
            expect_in(" 250 2.0.0 Ok: queued as ", said, "swaks' transcript")
            expect_in("~> ", said, "swaks' transcript, as a mark of TLS")
    sink.wait_for(4)
    expect(
        all(caught.field("Subject").startswith("test ") for caught in sink.caught),
        "the sink has another message",
    )


def refused(bench: Workbench) -> None:
    """Swaks shows why: password, envelope, header, a login and mail without TLS."""
    sink = bench.keep(Sink())
    server = bench.keep(Server(bench, _relayhost(sink.port)))
    foreign = "other@elsewhere.example"
    port = server.submissions
    for port in (server.submissions, server.submission):
        said = _swaks(bench, server, port, password="wrong")[1]
        expect_in(" 535 5.7.8 ", said, "swaks' transcript of a wrong password")
        said = _swaks(bench, server, port, sender=foreign)[1]
        expect_in(" 553 5.7.1 ", said, "swaks' transcript of a foreign sender")
        expect_in(SENDER, said, "the refusal, which names the login")
        said = _swaks(bench, server, port, "--h-From", f"Me <{foreign}>")[1]
        expect_in(" 550 5.7.1 ", said, "swaks' transcript of a foreign From")
        expect_in(foreign, said, "the refusal, which names the address")
    said = _run(server.submission, "--quit-after", "RCPT")[1]
    expect_in(" 530 5.7.0 ", said, "swaks' transcript without TLS")
    said = _run(port, "--quit-after", "RCPT", *_tls(bench, server, port))[1]
    expect_in(" 530 5.7.0 ", said, "swaks' transcript without a login")
    expect(not sink.caught, "something refused was delivered")


def _relayhost(port: int) -> dict[str, str]:
    return {"delivery": f'relayhost = "[127.0.0.1]:{port}"'}


def _tls(bench: Workbench, server: Server, port: int) -> list[str]:
    how = "--tls-on-connect" if port == server.submissions else "--tls"
    trust = ["--tls-verify", "--tls-ca-path", str(bench.authority.certificate)]
    return [how, *trust]


def _swaks(
    bench: Workbench,
    server: Server,
    port: int,
    *more: str,
    mechanism: str = "PLAIN",
    password: str = PASSWORD,
    sender: str = SENDER,
) -> tuple[int, str]:
    """Its exit status and its transcript of one message over TLS with a login."""
    login = ["--auth", mechanism, "--auth-user", SENDER, "--auth-password", password]
    tls = _tls(bench, server, port)
    return _run(port, *tls, *login, *more, sender=sender)


def _run(port: int, *words: str, sender: str = SENDER) -> tuple[int, str]:
    done = subprocess.run(
        [
            *("swaks", "--server", "127.0.0.1", "--port", str(port)),
            *("--ehlo", "client.example", "--from", sender, "--to", _INBOX),
            *words,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
