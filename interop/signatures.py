"""Our DKIM signatures, held by three verifiers: OpenDKIM, dkimpy and mailauth."""

import json
import os
import shutil
import subprocess
from base64 import b64encode, encodebytes
from collections.abc import Callable, Iterator
from pathlib import Path
from quopri import encodestring

import dkim  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from interop.kit import Failed, Workbench, expect, expect_in, wait_for
from interop.messages import SENDER, dotted, latin, plain
from interop.server import Server
from interop.sink import Sink

_READER = "reader@inbox.example"
_NUMBER = 1000
_A_SESSION = 250
_MAILAUTH = "mailauth@4"

_PROGRAM = """\
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
const { dkimVerify } = createRequire(process.cwd() + '/')('mailauth/lib/dkim/verify');
const [folder, table] = process.argv.slice(2);
const records = JSON.parse(readFileSync(table));
const resolver = async (name, type) => {
    const record = type === 'TXT' && records[name.split('.')[0]];
    if (!record) throw Object.assign(new Error('none'), { code: 'ENOTFOUND' });
    return [[record]];
};
for (const file of readdirSync(folder).sort()) {
    const found = await dkimVerify(readFileSync(`${folder}/${file}`), { resolver });
    const said = found.results.map(one => one.status.result);
    if (said.length !== 2 || said.some(word => word !== 'pass'))
        console.log(file, JSON.stringify(found.results.map(one => one.status)));
}
console.log('all seen');
"""


def signed(bench: Workbench) -> None:
    """1,000 signatures, rsa and ed25519, hold for OpenDKIM, dkimpy and mailauth."""
    sink = bench.keep(Sink())
    records = [_own_key(bench.folder / name, name) for name in ("rsa", "ed25519")]
    entries = [
        f'domain = "sender.example"\nselector = "{name}"\n'
        f'private_key = "{bench.folder / name}"\n'
        for name, _ in records
    ]
    tables = {
        "delivery": f'relayhost = "[127.0.0.1]:{sink.port}"',
        "[dkim]": "[[dkim]]\n".join(entries),
    }
    server = bench.keep(Server(bench, tables))
    wanted = [make(_READER, make.__name__) for make in (plain, dotted, latin)]
    wanted += map(_odd, range(_NUMBER - len(wanted)))
    _submit(server, wanted)
    wait_for("the mail arrives", lambda: len(sink.caught) == _NUMBER, seconds=120)
    folder = bench.folder / "signed"
    folder.mkdir()
    for number, caught in enumerate(sink.caught):
        (folder / f"{number:04}.eml").write_bytes(caught.content)
        _holds_for_dkimpy(caught.content, dict(records))
    _hold_for_opendkim(_verifier(bench.folder, records), folder)
    expect(_mailauth(bench.folder, folder, records) == "", "mailauth refuses some")
    _changed_ones_do_not(bench, records, sink.caught[0].content)


def _changed_ones_do_not(
    bench: Workbench, records: list[tuple[str, bytes]], content: bytes
) -> None:
    """The verifiers do look: all three refuse a message with one octet changed."""
    folder = bench.folder / "changed"
    folder.mkdir()
    file = folder / "changed.eml"
    file.write_bytes(content[:-4] + b"?" + content[-3:])
    words = ["opendkim", "-x", str(bench.folder / "verifier.conf"), "-t", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    expect_in("failed", done.stdout + done.stderr, "OpenDKIM on a changed message")
    said = _mailauth(bench.folder, folder, records)
    expect_in("changed.eml", said, "what mailauth says of a changed message")
    try:
        _holds_for_dkimpy(file.read_bytes(), dict(records))
    except (Failed, dkim.ValidationError):
        return
    raise Failed("dkimpy holds a changed message")


def _submit(server: Server, wanted: list[bytes]) -> None:
    for at in range(0, len(wanted), _A_SESSION):
        with server.login() as session:
            for content in wanted[at : at + _A_SESSION]:
                session.sendmail(SENDER, _READER, content, ["BODY=8BITMIME"])


# What is signed: each message differs in its kind, its folds, its blanks and its end


def _odd(number: int) -> bytes:
    blanks = (b" ", b"\t", b" \t ", b"\r\n ", b"\r\n\t\t", b"  \r\n  ")[number % 6]
    ends = b"\r\n" * (number % 4) + b" \t\r\n" * (number % 3)
    fields, body = _KINDS[number % len(_KINDS)](number)
    return (
        f"From:{'' if number % 2 else ' '}Odd <{SENDER}>\r\n".encode()
        + b"TO:\t<reader@inbox.example>\r\n"
        + b"Subject: a"
        + blanks
        + b"b"
        + blanks
        + b"c\r\nX-Empty:\r\n"
        + b"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
        + f"message-id: <odd-{number}@interop.example>\r\n".encode()
        + b"MIME-Version: 1.0\r\n"
        + fields
        + b"\r\n"
        + body
        + ends
    )


def _empty(number: int) -> tuple[bytes, bytes]:
    return b"Content-Type: text/plain\r\n", b""


def _spaced(number: int) -> tuple[bytes, bytes]:
    lines = (b"one  two\tthree \t", b"   ", b"\tfour", b".", b"..five ", b"x" * 998)
    return b"", b"\r\n".join(lines[number % 3 :]) + b"\r\n"


def _eight_bit(number: int) -> tuple[bytes, bytes]:
    charset = ("utf-8", "iso-8859-15")[number % 2]
    fields = f"Content-Type: text/plain; charset={charset}\r\n"
    body = f"Grüße {number}, ä ö ü \r\n" * (number % 40)
    return fields.encode() + _encoded("8bit"), body.encode(charset)


def _quoted(number: int) -> tuple[bytes, bytes]:
    text = encodestring("Käse = teuer. ".encode() * (number % 30)).replace(
        b"\n", b"\r\n"
    )
    return _encoded("quoted-printable"), text + b"\r\n"


def _binary(number: int) -> tuple[bytes, bytes]:
    text = encodebytes(bytes(range(256)) * (number % 7)).replace(b"\n", b"\r\n")
    return b"Content-Type: application/octet-stream\r\n" + _encoded("base64"), text


def _parts(number: int) -> tuple[bytes, bytes]:
    kind = f'Content-Type: multipart/alternative;\r\n boundary="b{number}"\r\n'
    part = f"--b{number}\r\nContent-Type: text/html\r\n\r\n<p>{number}</p> \r\n"
    return kind.encode(), f"{part * (1 + number % 3)}--b{number}--\r\n".encode()


def _encoded(name: str) -> bytes:
    return f"Content-Transfer-Encoding: {name}\r\n".encode()


_KINDS: tuple[Callable[[int], tuple[bytes, bytes]], ...] = (
    _empty,
    _spaced,
    _eight_bit,
    _quoted,
    _binary,
    _parts,
)


# Keys and verifiers


def _own_key(file: Path, name: str) -> tuple[str, bytes]:
    """Make a key with openssl; its selector and the record for it."""
    words = ["-algorithm", name]
    if name == "rsa":
        words += ["-pkeyopt", "rsa_keygen_bits:2048"]
    openssl = ["openssl", "genpkey", *words, "-out", str(file)]
    subprocess.run(openssl, check=True, capture_output=True)
    key = load_pem_private_key(file.read_bytes(), None).public_key()
    octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if name == "ed25519":
        octets = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return name, f"v=DKIM1; k={name}; p={b64encode(octets).decode()}".encode()


def _verifier(folder: Path, records: list[tuple[str, bytes]]) -> Path:
    """OpenDKIM's configuration, the records in its own resolver."""
    lines = ["server:"]
    for selector, record in records:
        text = record.decode()
        words = " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))
        name = f"{selector}._domainkey.sender.example."
        lines.append(f"    local-data: '{name} 60 IN TXT {words}'")
    resolver = folder / "unbound.conf"
    resolver.write_text("\n".join(lines) + "\n", encoding="utf-8")
    configuration = folder / "verifier.conf"
    text = f"Mode v\nResolverConfiguration {resolver}\nBackground no\nUserID root\n"
    configuration.write_text(text, encoding="utf-8")
    return configuration


def _hold_for_opendkim(configuration: Path, folder: Path) -> None:
    """It takes many files at a time, and says a line for each."""
    for files in _groups(sorted(folder.iterdir()), 50):
        done = subprocess.run(
            ["opendkim", "-x", configuration, "-t", ",".join(map(str, files))],
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        expect(done.returncode == 0, f"OpenDKIM on {files[0].name}...: {said}")
        count = said.count("succeeded")
        expect(count == len(files), f"OpenDKIM holds {count} of {len(files)}: {said}")


def _groups(files: list[Path], size: int) -> Iterator[list[Path]]:
    for at in range(0, len(files), size):
        yield files[at : at + size]


def _holds_for_dkimpy(content: bytes, records: dict[str, bytes]) -> None:
    def look_up(name: bytes, timeout: int = 5) -> bytes | None:
        return records.get(name.decode().partition(".")[0])

    for at in range(2):
        judge = dkim.DKIM(content)
        expect(judge.verify(idx=at, dnsfunc=look_up), f"dkimpy refuses {content!r}")


def _mailauth(work: Path, folder: Path, records: list[tuple[str, bytes]]) -> str:
    """What mailauth does not hold, a line for each."""
    npm = shutil.which("npm")
    if npm is None:
        raise Failed("npm is not installed: mailauth cannot be had")
    _run([npm, "install", "--no-audit", "--no-fund", _MAILAUTH], work)
    table = work / "records.json"
    table.write_text(json.dumps({name: text.decode() for name, text in records}))
    program = work / "verify.mjs"
    program.write_text(_PROGRAM, encoding="utf-8")
    said = _run(["node", str(program), str(folder), str(table)], work)
    expect(said.endswith("all seen\n"), f"mailauth says: {said[-2000:]}")
    return said.removesuffix("all seen\n")


def _run(words: list[str], folder: Path) -> str:
    done = subprocess.run(
        words,
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    expect(done.returncode == 0, f"{words[0]}: {done.stdout}{done.stderr}")
    return done.stdout
