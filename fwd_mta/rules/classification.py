"""Understands the other side: what a reply or a failure means and what it asks of us.

The rules are data (`classification.toml`), ordered, and the first that fits decides.
A rule says what a reply is about; the first digit of the reply decides whether we try
again, except where a 5yz is known to pass (`_retried`). A 4yz is never a refusal.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from typing_extensions import override

from fwd_mta.mail.entry import Action, Category, Diagnosis, Scope, Stage
from fwd_mta.mail.reply import Reply
from fwd_mta.rules import troubles
from fwd_mta.rules.rule import UNKNOWN, USUAL, Heard, Rule, parse

# A hostile reply may be 64 KiB; what a person needs to know stands at its start.
_TEXT_LIMIT = 4096

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\xa0\u2028\u2029]+")
_MAILBOX = re.compile(r"[^\s<>@\"'():;,\[\]/?=&]{1,64}@[^\s<>@\"'():;,]{1,255}")
_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)", re.ASCII)
_IPV6 = re.compile(r"(?<![0-9a-f:.])[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){3,7}")
_SAID = re.compile(
    r"^\s*(?:smtp;\s*)?(?P<at>[2-5][0-5]\d)(?=[\s:-]|$)|"
    r"(?:said|replied|answered|:|;)\s{1,9}(?P<in>[2-5][0-5]\d)(?=[ -])",
    re.ASCII | re.IGNORECASE,
)
_ENHANCED = re.compile(r"\s*[#(\[]?([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)[)\]:]?\s*")
_ENHANCED_INSIDE = re.compile(
    r"(?:[#(\[]|\b[45]\d\d[ -])([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)"
)


# Nothing is known of the message yet: what is refused here is our server.
_BEFORE_MAIL = frozenset(
    {Stage.CONNECT, Stage.GREETING, Stage.HELLO, Stage.STARTTLS, Stage.AUTH}
)


@dataclass(frozen=True, slots=True)
class RuleTable:
    """The rules in their order."""

    rules: tuple[Rule, ...]

    @classmethod
    def parse(cls, text: str) -> "RuleTable":
        """Read a table from TOML; raises SyntaxFault with every error, a line each."""
        return cls(parse(text))

    def diagnose(
        self, reply: Reply, stage: Stage, *, own_addresses: Sequence[str] = ()
    ) -> Diagnosis:
        """Say what a refusal means.

        `own_addresses` are those the world sees us by; without them every address
        that a reply names is taken for ours.
        """
        status = reply.status or _status_inside(reply)
        heard = _hear(reply, status, stage, own_addresses)
        rule = next((rule for rule in self.rules if rule.takes(heard)), UNKNOWN)
        action = _action(rule, reply, stage)
        return Diagnosis(
            action,
            rule.category,
            Scope.DESTINATION if stage in _BEFORE_MAIL else rule.scope,
            rule.message,
            reply.code,
            status or _usual_status(rule.category, reply, action),
            rule.name,
        )

    def trouble(self, kind: str, detail: str, stage: Stage) -> Diagnosis:
        """Say what a failure without a reply means; an unknown kind is tried again.

        `detail` is added to the sentence: a host, an error's words.
        """
        return troubles.diagnose(kind, detail, stage)


# The public function, and the noun it gives


@dataclass(frozen=True, slots=True)
class BounceInfo(Mapping[str, str | int]):
    """What a reply means; also a mapping, so that `dict` and JSON take it as it is."""

    action: Action
    category: Category
    scope: Scope
    message: str
    code: int
    status: str
    rule: str

    @override
    def __getitem__(self, key: str) -> str | int:
        if key not in _BOUNCE_KEYS:
            raise KeyError(key)
        value: str | int = getattr(self, key)
        return value

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(_BOUNCE_KEYS)

    @override
    def __len__(self) -> int:
        return len(_BOUNCE_KEYS)


_BOUNCE_KEYS = tuple(field.name for field in fields(BounceInfo))


def get_bounce_info(
    text: str | Reply, table: RuleTable, stage: Stage = Stage.RCPT
) -> BounceInfo:
    """Say what a reply means: a `Reply`, or words as they stand in a log or notice."""
    reply = reply_of(text) if isinstance(text, str) else text
    found = table.diagnose(reply, stage)
    return BounceInfo(
        found.action,
        found.category,
        found.scope,
        found.message,
        found.code,
        found.status,
        found.rule,
    )


def reply_of(text: str) -> Reply:
    """Read raw words as a reply: one line or many, from a log or bare, even codeless.

    Words with an enhanced code alone get the plainest code of its class (450, 550);
    words without any get code 0.
    """
    text = text[: 2 * _TEXT_LIMIT].strip()
    said = _SAID.search(text)
    code = (said["at"] or said["in"]) if said else ""
    rest = text[said.end() :] if said else text
    enhanced = _ENHANCED.match(rest.lstrip(" -:"))
    if not code and enhanced:
        code = enhanced[1] + "50"
    detail = f"{enhanced[2]}.{enhanced[3]}" if enhanced else None
    lines = [_bare_line(line, code) for line in rest.splitlines()]
    return Reply(int(code or 0), detail, "\n".join(line for line in lines if line))


def _bare_line(line: str, code: str) -> str:
    line = line.strip()
    if code and re.match(code + r"(?:[ -]|$)", line):
        line = line[len(code) + 1 :]
    line = line.lstrip(" -:")
    enhanced = _ENHANCED.match(line)
    return line[enhanced.end() :] if enhanced else line


# How a reply is heard


def _hear(
    reply: Reply, status: str | None, stage: Stage, own_addresses: Sequence[str]
) -> Heard:
    words = _plain(reply, status)
    named = _names_address(words, own_addresses)
    address = named or stage in _BEFORE_MAIL or stage is Stage.MAIL
    return Heard(str(reply.code), status or "", stage, words, address)


def _plain(reply: Reply, status: str | None) -> str:
    """One line in lower case, without repeated codes, controls and mailboxes.

    A mailbox goes because its local part may hold any word that a rule looks for.
    """
    text = reply.text[:_TEXT_LIMIT]
    if reply.code:
        repeated = rf"(?:^|(?<=\s)){reply.code}-|^{reply.code} "
        text = re.sub(repeated, " ", text, flags=re.MULTILINE)
    if status:
        text = re.sub(rf"(?<![\d.]){re.escape(status)}(?!\.?\d)", " ", text)
    text = _MAILBOX.sub("@", _CONTROLS.sub(" ", text))
    return " ".join(text.lower().split())


def _names_address(words: str, own: Sequence[str]) -> bool:
    if own:
        return any(address.lower() in words for address in own)
    return bool(_IPV4.search(words) or _IPV6.search(words))


def _status_inside(reply: Reply) -> str | None:
    """The enhanced code of a reply that hides it in its words, as "(#5.1.1)"."""
    found = _ENHANCED_INSIDE.search(reply.text[:_TEXT_LIMIT])
    if not found:
        return None
    digit = reply.code // 100 or found[1]
    return f"{digit}.{found[2]}.{found[3]}"


# What it asks of us


def _action(rule: Rule, reply: Reply, stage: Stage) -> Action:
    """SPEC section 3: the first digit decides, but for what is known to pass."""
    if reply.is_temporary:
        return _temporary(rule)
    if rule.action is not None:
        return rule.action
    if rule.category is Category.RATE:
        return Action.SLOWDOWN
    if reply.is_permanent:
        passes = stage in _BEFORE_MAIL or _retried(rule)
        return Action.DEFER if passes else Action.REJECT
    if reply.code:
        return Action.DEFER
    return USUAL[rule.category].action


def _temporary(rule: Rule) -> Action:
    if rule.action is Action.SLOWDOWN:
        return Action.SLOWDOWN
    plain_rate = rule.category is Category.RATE and rule.action is None
    return Action.SLOWDOWN if plain_rate else Action.DEFER


def _retried(rule: Rule) -> bool:
    match rule.category:
        case Category.GREYLIST:
            return True
        case Category.BLOCKLIST:
            return rule.scope is Scope.DESTINATION
        case Category.CAPACITY:
            return rule.scope is Scope.RECIPIENT
        case _:
            return False


def _usual_status(category: Category, reply: Reply, action: Action) -> str:
    heard = reply.code // 100
    digit = heard if heard in {4, 5} else 5 if action is Action.REJECT else 4
    return f"{digit}.{USUAL[category].detail}"
