"""Scenarios with content made to break a parser: each is answered, in little memory."""

import io
import smtplib
import time
import zipfile
from base64 import encodebytes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from interop.kit import Workbench, expect, wait_for
from interop.messages import SENDER, plain
from interop.server import Server
from interop.sink import Sink

_READER = "reader@inbox.example"
_MIB = 1024 * 1024
_MEMORY = 64 * _MIB
_SECONDS = 30.0
_BOUNDARY = b"=_boundary"


@dataclass(frozen=True, slots=True)
class _Case:
    """Content, and the codes of which one has to answer it."""

    name: str
    content: bytes
    codes: frozenset[int]


def content(bench: Workbench) -> None:
    """Bombs, 10,000 parts, 100 levels, 10 MB of header, 2 GB by BDAT: answered."""
    sink = bench.keep(Sink())
    server = bench.keep(
        Server(bench, {"delivery": f'relayhost = "[127.0.0.1]:{sink.port}"'})
    )
    server.submit(plain(_READER, "first"), _READER)
    for case in _cases():
        said = _measured(server, case.name, _sent(server, case.content))
        expect(said[0] in case.codes, f"{case.name}: answered {said}")
    said = _measured(server, "2 GB by BDAT", _in_chunks(server, 2048, _MIB))
    expect(said[0] == 552, f"2 GB by BDAT: answered {said}")
    said = _measured(server, "BDAT of 2 GB, claimed", _claimed(server))
    expect(said[0] == 552, f"2 GB claimed by BDAT: answered {said}")
    server.submit(plain(_READER, "last"), _READER)
    wait_for("the small mail arrives", lambda: _names(sink) >= {b"first", b"last"})


def _cases() -> Iterator[_Case]:
    refused = frozenset({550, 552, 554})
    yield _Case("zip of a zip of 1 GiB", _bomb(b""), refused | {250})
    yield _Case("the same with a program", _bomb(b"MZ"), refused)
    yield _Case("10,000 parts", _parts(10_000), refused)
    yield _Case("100 levels", _nested(100), refused)
    yield _Case("10 MB of header", _long_header(10 * _MIB), refused)
    yield _Case("a field of 10 MB", _long_field(10 * _MIB), refused)


# How each is sent: a generator that ends with the reply, so that memory is looked at


def _measured(
    server: Server, name: str, reply: "Iterator[tuple[int, bytes]]"
) -> tuple[int, bytes]:
    """The reply; fails when it took too long or too much memory."""
    before = _peak(server, anew=True)
    begun = time.monotonic()
    said = next(reply)
    took, more = time.monotonic() - begun, _peak(server) - before
    print(f"   {name}: {said[0]} in {took:.1f} s, {more / _MIB:.1f} MiB more")
    expect(more < _MEMORY, f"{name}: {more / _MIB:.0f} MiB more")
    expect(took < _SECONDS, f"{name}: answered after {took:.0f} s")
    return said


def _peak(server: Server, *, anew: bool = False) -> int:
    """The server's largest resident size so far, in octets; counted anew from now."""
    process = Path(f"/proc/{server.pid}")
    if anew:
        (process / "clear_refs").write_text("5", encoding="ascii")
    for line in (process / "status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM in /proc")


def _begun(server: Server) -> smtplib.SMTP:
    session = server.login()
    session.mail(SENDER)
    session.rcpt(_READER)
    return session


def _sent(server: Server, content: bytes) -> Iterator[tuple[int, bytes]]:
    with _begun(server) as session:
        yield session.data(content)


def _in_chunks(server: Server, number: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Chunks, until the server has had enough; the first reply that is not 250."""
    with _begun(server) as session:
        chunk, said = b"x" * (size - 2) + b"\r\n", (250, b"")
        for _ in range(number):
            try:
                session.send(b"BDAT %d\r\n" % size + chunk)
                code, words = session.getreply()
            except smtplib.SMTPServerDisconnected:
                break
            said = said if said[0] != 250 else (code, words)
        yield said


def _claimed(server: Server) -> Iterator[tuple[int, bytes]]:
    """One chunk that is announced and never comes."""
    session = _begun(server)
    session.send(b"BDAT 2147483648 LAST\r\n")
    yield session.getreply()
    session.close()


def _names(sink: Sink) -> set[bytes]:
    return {
        line[9:]
        for caught in sink.caught
        for line in caught.content.split(b"\r\n")
        if line.startswith(b"Subject: ")
    }


# The content


def _head(kind: bytes) -> bytes:
    return (
        f"From: {SENDER}\r\nTo: {_READER}\r\nSubject: heavy\r\n".encode()
        + b"MIME-Version: 1.0\r\nContent-Type: "
        + kind
        + b"\r\n"
    )


def _bomb(program: bytes) -> bytes:
    inner = io.BytesIO()
    with (
        zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("zeros.txt", "w", force_zip64=True) as file,
    ):
        for _ in range(1024):
            file.write(bytes(_MIB))
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.zip", inner.getvalue())
        if program:
            archive.writestr("report.exe", program)
    return (
        _head(b'application/zip; name="bomb.zip"')
        + b"Content-Transfer-Encoding: base64\r\n\r\n"
        + encodebytes(outer.getvalue()).replace(b"\n", b"\r\n")
    )


def _parts(number: int) -> bytes:
    part = b"--" + _BOUNDARY + b"\r\nContent-Type: text/plain\r\n\r\nx\r\n"
    head = _head(b'multipart/mixed; boundary="' + _BOUNDARY + b'"')
    return head + b"\r\n" + part * number + b"--" + _BOUNDARY + b"--\r\n"


def _nested(levels: int) -> bytes:
    kinds = [b'multipart/mixed; boundary="b%d"' % level for level in range(levels)]
    body = b"".join(
        b"\r\n--b%d\r\nContent-Type: %b\r\n" % (level, kind)
        for level, kind in enumerate([*kinds[1:], b"text/plain"])
    )
    return _head(kinds[0]) + body + b"\r\nx\r\n"


def _long_header(size: int) -> bytes:
    field = b"X-Filler: " + b"y" * 60 + b"\r\n"
    return _head(b"text/plain") + field * (size // len(field)) + b"\r\nx\r\n"


def _long_field(size: int) -> bytes:
    folded = b" " + b"y" * 70 + b"\r\n"
    return _head(b"text/plain") + b"X-Long:\r\n" + folded * (size // 73) + b"\r\nx\r\n"
