"""What milters do to a header section. Pure."""

import re
from collections.abc import Iterable

from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import Field, fields, fold, join
from fwd_mta.mail.scan import Edit, EditKind
from fwd_mta.rules.encoding import LINE_LIMIT, longest_line

_NAME = re.compile(rb"[!-9;-~]{1,200}\Z")
_ENDS = re.compile(rb"\r\n|\r|\n")
_BARE = re.compile(rb"\0|\r(?!\n)|(?<!\r)\n")
_VALUE_LIMIT = 64 * 1024


def edited(head: bytes, edits: Iterable[Edit]) -> bytes:
    """The head after all edits, in their order; raises SyntaxFault."""
    parts = list(fields(head))
    for edit in edits:
        _KINDS[edit.kind](parts, edit)
    return join(parts)


def check_body(body: bytes) -> None:
    """Raise SyntaxFault for a body that must not leave (RFC 5321 2.3.8, 4.5.3.1.6)."""
    if _BARE.search(body):
        raise SyntaxFault("its body holds NUL, or a bare CR or LF")
    if longest_line(body, LINE_LIMIT) > LINE_LIMIT:
        raise SyntaxFault("its body has lines over 998 octets")


def _add(parts: list[Field], edit: Edit) -> None:
    parts.append(_field(edit))


def _insert(parts: list[Field], edit: Edit) -> None:
    parts.insert(edit.index, _field(edit))


def _change(parts: list[Field], edit: Edit) -> None:
    """Change the n-th field of a name, from 1; an empty value removes it."""
    name = edit.name.decode("latin-1").lower()
    places = [at for at, field in enumerate(parts) if field.has_name(name)]
    at = places[edit.index - 1] if 0 < edit.index <= len(places) else None
    if not edit.value.strip():
        if at is not None:
            del parts[at]
    elif at is None:
        parts.append(_field(edit))
    else:
        parts[at] = _field(edit)


_KINDS = {EditKind.ADD: _add, EditKind.INSERT: _insert, EditKind.CHANGE: _change}


def _field(edit: Edit) -> Field:
    """A field of a milter's name and value; each line after the first begins blank."""
    if not _NAME.match(edit.name):
        raise SyntaxFault(f"it names a header field {edit.name[:40]!r}")
    if b"\0" in edit.value or len(edit.value) > _VALUE_LIMIT:
        raise SyntaxFault("its header field is too long, or holds NUL")
    if not edit.value.isascii():
        raise SyntaxFault("its header field is not ASCII")
    first, *others = [line.rstrip() for line in _ENDS.split(edit.value)]
    lines = [first, *(_continued(line) for line in others if line.strip())]
    raw = edit.name + b":" + b"\r\n".join(lines) + b"\r\n"
    return Field(
        edit.name.decode("ascii"), fold(raw, LINE_LIMIT) if _is_long(raw) else raw
    )


def _continued(line: bytes) -> bytes:
    return line if line[:1] in {b" ", b"\t"} else b"\t" + line


def _is_long(raw: bytes) -> bool:
    return any(len(line) > LINE_LIMIT for line in raw.split(b"\r\n"))
