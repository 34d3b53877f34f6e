"""rspamd, asked over HTTP (/checkv2)."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from typing_extensions import override

from fwd_mta.inbound.dialogue import Line, NoAnswer, Place, blocks, dialogue
from fwd_mta.interfaces import Network, Scanner
from fwd_mta.mail.address import excerpt
from fwd_mta.mail.entry import Category
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.message import Message
from fwd_mta.mail.scan import ScanReport, Verdict
from fwd_mta.mail.session import Session

_HEAD = 64 * 1024
_BODY = 1024 * 1024
_SHOWN = 10
_TAG = (("X-Spam", "Yes"),)
# What its actions mean to us: mail is refused or held, never dropped
_ACTIONS = {
    "no action": Verdict.ACCEPT,
    "greylist": Verdict.ACCEPT,
    "add header": Verdict.TAG,
    "rewrite subject": Verdict.TAG,
    "soft reject": Verdict.DEFER,
    "quarantine": Verdict.QUARANTINE,
    "reject": Verdict.REJECT,
    "discard": Verdict.REJECT,
}


class Rspamd(Scanner):
    """A spam scanner; told who is logged in, so that it knows mail of ours."""

    def __init__(self, network: Network, url: str, hostname: str) -> None:
        """Raises ValueError for a URL it cannot be asked at."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url} is not http://host:port")
        self._network = network
        self._place = Place.at(parts.hostname, parts.port or 11333)
        self._path = f"{parts.path.rstrip('/')}/checkv2"
        self._hostname = hostname

    @property
    @override
    def name(self) -> str:
        """Its name in reports."""
        return "rspamd"

    @override
    async def scan(
        self, session: Session, envelope: Envelope, message: Message
    ) -> ScanReport:
        """Post the message to it and report what it says."""
        lines = [
            f"POST {self._path} HTTP/1.1",
            f"Host: {self._place}",
            f"Content-Length: {message.size}",
            "Connection: close",
            f"MTA-Name: {self._hostname}",
            *_facts(session, envelope),
        ]
        request = "\r\n".join([*lines, "", ""]).encode()
        try:
            async with dialogue(self._network, self._place) as line:
                await line.send(request)
                async for block in blocks(message):
                    await line.send(block)
                return report_of(await response(line))
        except NoAnswer as reason:
            return ScanReport(self.name, Verdict.FAILED, note=str(reason))


def _facts(session: Session, envelope: Envelope) -> Iterator[str]:
    """The header fields that tell rspamd of client, account and envelope."""
    yield f"From: {envelope.reverse_path or ''}"
    for one in envelope.recipients:
        yield f"Rcpt: {one.mailbox}"
    yield f"IP: {session.client}"
    if session.hello:
        yield f"Helo: {excerpt(session.hello, 255)}"
    if session.account:
        yield f"User: {excerpt(session.account.login, 255)}"
    if session.tls:
        yield f"TLS-Version: {session.tls.version}"
        yield f"TLS-Cipher: {session.tls.cipher}"


async def response(line: Line) -> bytes:
    """The body of an answer 200 to HTTP/1.1; raises NoAnswer for any other."""
    head = (await line.until(b"\r\n\r\n", _HEAD)).decode("latin-1")
    first, *others = head.split("\r\n")
    words = first.split(None, 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or words[1] != "200":
        raise NoAnswer(f"it answered {excerpt(first, 100)}")
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (other.partition(":") for other in others)
    }
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return await _chunked(line)
    length = fields.get("content-length")
    if length is None:
        return await line.rest()
    if not (length.isascii() and length.isdigit() and int(length) <= _BODY):
        raise NoAnswer(f"it announces {excerpt(length, 30)} octets")
    return await line.exactly(int(length))


async def _chunked(line: Line) -> bytes:
    body = b""
    while True:
        size = (await line.until(b"\r\n", 100)).partition(b";")[0].strip()
        try:
            count = int(size, 16)
        except ValueError:
            raise NoAnswer(f"it announces a chunk of {size!r}") from None
        if not 0 <= count <= _BODY - len(body):
            raise NoAnswer(f"it answers more than {_BODY} octets")
        if not count:
            return body
        body += (await line.exactly(count + 2))[:count]


# What it says


def report_of(body: bytes) -> ScanReport:
    """Read its answer; raises NoAnswer when that makes no sense."""
    try:
        said = json.loads(body)
        return _report(said)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise NoAnswer(f"it answered {excerpt(_text(body[:100]))}") from None


def _report(said: Mapping[str, Any]) -> ScanReport:
    verdict = _ACTIONS[said["action"]]
    score = float(said["score"])
    words = dict(said.get("messages") or {}).get("smtp_message")
    symbols = ", ".join(_symbols(said.get("symbols") or {}))
    fields = _added(dict(said.get("milter") or {}).get("add_headers") or {})
    if verdict is Verdict.TAG and not fields:
        fields = _TAG
    reason = ""
    if verdict is not Verdict.ACCEPT and verdict is not Verdict.TAG:
        reason = str(words or symbols)
    note = "" if reason == symbols else symbols
    return ScanReport(
        "rspamd", verdict, reason, Category.SPAM, score, note, tuple(fields)
    )


def _symbols(symbols: Mapping[str, Any]) -> list[str]:
    """The names of those that count most, the worst first."""
    scores = {name: float(one.get("score", 0)) for name, one in symbols.items()}
    worst = sorted(scores, key=lambda name: (-scores[name], name))
    return [name for name in worst if scores[name] > 0][:_SHOWN]


def _added(wanted: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The header fields it wants added: a value, an object, or a list of them."""
    pairs = []
    for name, value in wanted.items():
        for one in value if isinstance(value, list) else [value]:
            text = one.get("value", "") if isinstance(one, dict) else one
            pairs.append((name, str(text)))
    return tuple(pairs)


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")
