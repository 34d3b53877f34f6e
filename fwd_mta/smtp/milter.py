"""The grammar of the milter protocol, version 6, as an MTA speaks it. Pure.

A packet is a length, a letter, and data. There is no RFC: this is what libmilter does.
"""

from dataclasses import dataclass
from enum import IntFlag
from struct import error, pack, unpack

from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.reply import Reply

VERSION = 6
OLDEST = 2
CHUNK = 65535
PACKET_LIMIT = 1024 * 1024


class Change(IntFlag):
    """What a milter may do to a message (SMFIF); those we offer are in OFFERED."""

    ADD_HEADERS = 0x01
    CHANGE_BODY = 0x02
    CHANGE_HEADERS = 0x10
    QUARANTINE = 0x20


class Step(IntFlag):
    """What a milter does not want to see, or does not answer (SMFIP)."""

    NO_CONNECT = 0x01
    NO_HELLO = 0x02
    NO_MAIL = 0x04
    NO_RECIPIENT = 0x08
    NO_BODY = 0x10
    NO_HEADERS = 0x20
    NO_END_OF_HEADERS = 0x40
    SILENT_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400
    SILENT_CONNECT = 0x1000
    SILENT_HELLO = 0x2000
    SILENT_MAIL = 0x4000
    SILENT_RECIPIENT = 0x8000
    SILENT_DATA = 0x10000
    SILENT_END_OF_HEADERS = 0x40000
    SILENT_BODY = 0x80000
    LEADING_SPACE = 0x100000


OFFERED = (
    Change.ADD_HEADERS | Change.CHANGE_BODY | Change.CHANGE_HEADERS | Change.QUARANTINE
)
STEPS = Step(sum(Step))


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed on at the start."""

    version: int
    changes: int
    steps: Step


def packet(letter: bytes, data: bytes = b"") -> bytes:
    """One packet."""
    return pack(">I", len(data) + 1) + letter + data


def offer() -> bytes:
    """The packet that begins a session."""
    return packet(b"O", pack(">III", VERSION, OFFERED, STEPS))


def read_terms(data: bytes) -> Terms:
    """The milter's answer to our offer; raises SyntaxFault."""
    if len(data) < 12:
        raise SyntaxFault("its answer to our offer is too short")
    version, changes, steps = unpack(">III", data[:12])
    if not OLDEST <= version <= VERSION:
        raise SyntaxFault(f"it speaks version {version} of the protocol")
    if changes & ~int(OFFERED):
        raise SyntaxFault("it wants to change recipients or the sender")
    return Terms(version, changes, Step(steps & int(STEPS)))


def macros(letter: bytes, values: dict[str, str]) -> bytes:
    """The packet that gives macros to the command of that letter; empty for none."""
    words = [word for name, value in values.items() if value for word in (name, value)]
    return packet(b"D", letter + strings(*words)) if words else b""


def strings(*words: str | bytes) -> bytes:
    """Words, each with the NUL that ends it."""
    octets = (word if isinstance(word, bytes) else word.encode() for word in words)
    return b"".join(word.replace(b"\0", b"") + b"\0" for word in octets)


def connection(client: str, port: int) -> bytes:
    """The data of a connect command: a name, a family, port and address."""
    if not client:
        return strings("localhost") + b"L" + pack(">H", 0) + strings("local")
    family = b"6" if ":" in client else b"4"
    address = f"IPv6:{client}" if family == b"6" else client
    name = strings(f"[{address}]")
    return name + family + pack(">H", port & 0xFFFF) + strings(client)


def read_length(octets: bytes) -> int:
    """The length of a packet from its first four octets; raises SyntaxFault."""
    (length,) = unpack(">I", octets)
    if not 0 < length <= PACKET_LIMIT:
        raise SyntaxFault(f"it announces a packet of {length} octets")
    return int(length)


def read_pair(data: bytes) -> tuple[bytes, bytes]:
    """A header's name and value; raises SyntaxFault."""
    words = data.split(b"\0")
    if len(words) != 3 or words[2]:
        raise SyntaxFault("it sends a header that is not a name and a value")
    return words[0], words[1]


def read_indexed(data: bytes) -> tuple[int, bytes, bytes]:
    """An index, and a header's name and value; raises SyntaxFault."""
    try:
        (index,) = unpack(">I", data[:4])
    except error:
        raise SyntaxFault("it sends a header without an index") from None
    return int(index), *read_pair(data[4:])


def read_reply(data: bytes) -> Reply:
    """A reply in a milter's own words; raises SyntaxFault for all but 4yz and 5yz."""
    lines = data.rstrip(b"\0").decode("utf-8", "replace").splitlines()
    codes = {line[:3] for line in lines}
    if len(codes) != 1 or not _is_refusal(code := codes.pop()):
        raise SyntaxFault("its reply is no refusal")
    detail: str | None = "7.1"
    words = []
    for line in lines[:20]:
        status, _, rest = line[4:].partition(" ")
        if _is_status(status, code):
            detail, line = status[2:], f"{code} {rest}"  # noqa: PLW2901 - shortened
        words.append(line[4:][:400])
    # 421 would promise that we hang up
    return Reply(451 if code == "421" else int(code), detail, "\n".join(words))


def _is_refusal(code: str) -> bool:
    return len(code) == 3 and code.isascii() and code.isdigit() and code[0] in "45"


def _is_status(word: str, code: str) -> bool:
    parts = word.split(".")
    digits = all(part.isascii() and part.isdigit() for part in parts)
    return len(parts) == 3 and parts[0] == code[0] and digits and len(word) <= 9
