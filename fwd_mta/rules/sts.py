"""MTA-STS: what a domain's policy says, and which exchangers it names (RFC 8461)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LONGEST_AGE = 31_557_600
_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")
_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})[ \t]*:[ \t]*(.*?)[ \t]*\Z")
_LABEL = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\Z")
_MOST_NAMES = 1000


class Mode(StrEnum):
    """What a domain wants to happen."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy; `names` are exchangers in lower case, "*.example.com" for one label."""

    mode: Mode
    max_age: int
    names: tuple[str, ...] = ()

    def allows(self, exchanger: str) -> bool:
        """Whether an exchanger is one of the policy's (RFC 8461 4.1)."""
        name = exchanger.lower().removesuffix(".")
        above = name.partition(".")[2]
        return name in self.names or (bool(above) and f"*.{above}" in self.names)


def record_id(texts: Sequence[str]) -> str | None:
    """The id in the TXT records at _mta-sts; None: there is no policy (3.1)."""
    ours = [text for text in texts if re.match(r"v=STSv1[ \t]*(?:;|\Z)", text)]
    if len(ours) != 1:
        return None
    for word in ours[0].split(";")[1:]:
        name, _, value = word.strip().partition("=")
        if name.strip() == "id" and _ID.match(value.strip()):
            return value.strip()
    return None


def parse(text: str) -> Policy | None:
    """Read a policy file (3.2); None when it is none."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        found = _FIELD.match(line)
        if found:
            fields.setdefault(found[1], []).append(found[2])
        elif line.strip():
            return None
    if fields.get("version", [""])[0] != "STSv1":
        return None
    age = fields.get("max_age", [""])[0]
    mode = fields.get("mode", [""])[0]
    if mode not in set(Mode) or not (age.isascii() and age.isdigit() and len(age) < 11):
        return None
    names = tuple(
        name.lower().removesuffix(".") for name in fields.get("mx", [])[:_MOST_NAMES]
    )
    if not all(_LABEL.match(name) for name in names):
        return None
    if mode != Mode.NONE and not names:
        return None
    return Policy(Mode(mode), min(int(age), LONGEST_AGE), names)
