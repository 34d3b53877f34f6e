"""A rule of classification: its conditions, its meaning, and how it is written.

`parse` reads them from TOML (`classification.toml` says how to write one). Patterns are
regular expressions without unbounded repetition, so that no reply costs much time.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from fwd_mta.mail.entry import Action, Category, Scope, Stage
from fwd_mta.mail.errors import SyntaxFault


@dataclass(frozen=True, slots=True)
class Usual:
    """What holds for a category where its rule does not say otherwise.

    `action` is for words without a code, `detail` for a reply without enhanced code.
    """

    action: Action
    scope: Scope
    detail: str
    message: str


USUAL: Mapping[Category, Usual] = {
    Category.BLOCKLIST: Usual(
        Action.DEFER,
        Scope.DESTINATION,
        "7.1",
        "The other side does not trust the network address this server sends from.",
    ),
    Category.SPAM: Usual(
        Action.REJECT,
        Scope.MESSAGE,
        "7.1",
        "The other side takes this message for spam.",
    ),
    Category.VIRUS: Usual(
        Action.REJECT,
        Scope.MESSAGE,
        "7.1",
        "The other side found something in this message that it holds to be dangerous.",
    ),
    Category.POLICY: Usual(
        Action.REJECT,
        Scope.MESSAGE,
        "7.1",
        "A rule of the other side forbids this message.",
    ),
    Category.DMARC: Usual(
        Action.REJECT,
        Scope.SENDER,
        "7.26",
        "The message fails the DMARC policy of the domain in its From field.",
    ),
    Category.RECIPIENT: Usual(
        Action.REJECT, Scope.RECIPIENT, "1.1", "The other side has no such mailbox."
    ),
    Category.SENDER: Usual(
        Action.REJECT,
        Scope.SENDER,
        "1.8",
        "The other side does not take mail from this sender address.",
    ),
    Category.CAPACITY: Usual(
        Action.DEFER, Scope.RECIPIENT, "2.2", "The mailbox is full."
    ),
    Category.RATE: Usual(
        Action.SLOWDOWN,
        Scope.DESTINATION,
        "4.5",
        "The other side asks for fewer messages or connections at a time.",
    ),
    Category.GREYLIST: Usual(
        Action.DEFER,
        Scope.MESSAGE,
        "7.1",
        "The other side asks every first message of a sender to come a second time.",
    ),
    Category.MESSAGE: Usual(
        Action.REJECT,
        Scope.MESSAGE,
        "6.0",
        "The other side does not take a message of this size or form.",
    ),
    Category.NETWORK: Usual(
        Action.DEFER,
        Scope.DESTINATION,
        "4.0",
        "The network between the two mail servers is in trouble.",
    ),
    Category.DNS: Usual(
        Action.DEFER,
        Scope.DESTINATION,
        "4.3",
        "A name could not be looked up in the DNS.",
    ),
    Category.TLS: Usual(
        Action.DEFER,
        Scope.DESTINATION,
        "7.0",
        "No encrypted connection of the required kind could be made.",
    ),
    Category.PROTOCOL: Usual(
        Action.REJECT,
        Scope.DESTINATION,
        "5.0",
        "The two mail servers did not understand each other.",
    ),
    Category.AUTH: Usual(
        Action.REJECT,
        Scope.SENDER,
        "7.0",
        "The other side wants proof of who sends this, and did not get it.",
    ),
    Category.CONFIG: Usual(
        Action.REJECT,
        Scope.DESTINATION,
        "3.5",
        "A mail server on the way is not set up for this mail.",
    ),
    Category.OTHER: Usual(
        Action.DEFER, Scope.RECIPIENT, "0.0", "The other side did not take the message."
    ),
}


@dataclass(frozen=True, slots=True)
class Heard:
    """A reply in the form that rules look at: words in lower case on one line."""

    code: str
    status: str
    stage: Stage
    words: str
    address: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table; a condition that is empty always holds.

    `words`, `also`: one pattern of each has to be found, `unless`: none of them.
    `address`: the reply names our address, or came before any recipient was named.
    `source` says whose words these are, `examples` are replies it has to decide.
    """

    name: str
    category: Category
    scope: Scope
    message: str
    action: Action | None = None
    source: str = ""
    codes: re.Pattern[str] | None = None
    enhanced: re.Pattern[str] | None = None
    stages: tuple[Stage, ...] = ()
    address: bool = False
    words: tuple[re.Pattern[str], ...] = ()
    also: tuple[re.Pattern[str], ...] = ()
    unless: tuple[re.Pattern[str], ...] = ()
    examples: tuple[str, ...] = ()

    def takes(self, heard: Heard) -> bool:
        """Whether the reply fits, cheap conditions first."""
        return (
            (self.codes is None or self.codes.fullmatch(heard.code) is not None)
            and (self.enhanced is None or bool(self.enhanced.fullmatch(heard.status)))
            and (not self.stages or heard.stage in self.stages)
            and (not self.address or heard.address)
            and (not self.words or _found(self.words, heard.words))
            and (not self.also or _found(self.also, heard.words))
            and not _found(self.unless, heard.words)
        )


UNKNOWN = Rule(
    "unknown",
    Category.OTHER,
    USUAL[Category.OTHER].scope,
    "The other side gave no answer that this server can read.",
)


def _found(patterns: tuple[re.Pattern[str], ...], words: str) -> bool:
    return any(pattern.search(words) for pattern in patterns)


# Reading the table


_TEXT_KEYS = frozenset({"name", "source", "category", "scope", "action", "message"})
_LIST_KEYS = frozenset(
    {"code", "enhanced", "stage", "words", "also", "unless", "example"}
)
_KEYS = _TEXT_KEYS | _LIST_KEYS | {"address"}
_NEEDED = ("name", "source", "category", "example")

_CODE = re.compile(r"[245][0-5x][0-9x]")
_ENHANCED_CODE = re.compile(r"[x245]\.[0-9x]{1,3}\.[0-9x]{1,3}")

_TOKEN = re.compile(
    r"\\.|\[(?:\\.|[^\]\\])+\]|\(\?:|\(\?|\{[\d,]+\}|.", re.ASCII | re.DOTALL
)
_BRACE = re.compile(r"\{(?:\d,)?(\d{1,2})\}")
_GAP_LIMIT = 60
_GAPS = 2

E = TypeVar("E", bound=StrEnum)


def parse(text: str) -> tuple[Rule, ...]:
    """Read rules from TOML; raises SyntaxFault with every error, a line each."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SyntaxFault(f"classification rules are not TOML: {error}") from None
    errors = [f"unknown key {key!r}; only [[rule]]" for key in table if key != "rule"]
    rows = table.get("rule", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SyntaxFault("classification rules: every rule is a [[rule]] table")
    readers = [_Reader(number, row, errors) for number, row in enumerate(rows, 1)]
    rules = [reader.rule() for reader in readers]
    errors += _doubles([rule.name for rule in rules])
    if errors:
        raise SyntaxFault("\n".join(errors))
    return tuple(rules)


def _doubles(names: list[str]) -> list[str]:
    double = sorted({name for name in names if name and names.count(name) > 1})
    return [f"rule {name!r}: the name is used twice" for name in double]


class _Reader:
    """Reads one row and collects what is wrong with it."""

    def __init__(self, number: int, row: dict[str, object], errors: list[str]) -> None:
        self._row = row
        self._errors = errors
        self._where = f"rule {row.get('name', number)!r}"

    def rule(self) -> Rule:
        """Give the rule; of use only where no error was collected."""
        self._check_keys()
        category = self._one(Category, "category") or Category.OTHER
        usual = USUAL[category]
        return Rule(
            self._text("name"),
            category,
            self._one(Scope, "scope") or usual.scope,
            self._text("message") or usual.message,
            self._one(Action, "action"),
            self._text("source"),
            self._digits("code", _CODE, r"\\d"),
            self._digits("enhanced", _ENHANCED_CODE, r"\\d+"),
            tuple(self._members(Stage, "stage")),
            self._row.get("address") is True,
            self._patterns("words"),
            self._patterns("also"),
            self._patterns("unless"),
            tuple(self._list("example")),
        )

    def _wrong(self, words: str) -> None:
        self._errors.append(f"{self._where}: {words}")

    def _check_keys(self) -> None:
        for key in self._row.keys() - _KEYS:
            self._wrong(f"unknown key {key!r}; allowed are {', '.join(sorted(_KEYS))}")
        for key in _NEEDED:
            if not self._row.get(key):
                self._wrong(f"needs {key!r}")
        if self._row.get("address", True) is not True:
            self._wrong("'address' can only be true")

    def _text(self, key: str) -> str:
        value = self._row.get(key, "")
        if isinstance(value, str):
            return value
        self._wrong(f"{key!r} has to be text")
        return ""

    def _list(self, key: str) -> list[str]:
        value = self._row.get(key, [])
        values = [value] if isinstance(value, str) else value
        if isinstance(values, list) and all(isinstance(one, str) for one in values):
            return values
        self._wrong(f"{key!r} has to be text or a list of texts")
        return []

    def _one(self, kind: type[E], key: str) -> E | None:
        text = self._text(key)
        return self._member(kind, key, text) if text else None

    def _members(self, kind: type[E], key: str) -> list[E]:
        found = [self._member(kind, key, text) for text in self._list(key)]
        return [one for one in found if one is not None]

    def _member(self, kind: type[E], key: str, text: str) -> E | None:
        if text in list(kind):
            return kind(text)
        self._wrong(f"{key!r} is {text!r}; allowed are {', '.join(kind)}")
        return None

    def _digits(
        self, key: str, form: re.Pattern[str], any_digit: str
    ) -> re.Pattern[str] | None:
        values = self._list(key)
        for value in values:
            if not form.fullmatch(value):
                self._wrong(f"{key!r} {value!r} is no such code; x stands for a digit")
        if not values:
            return None
        choices = "|".join(re.escape(value) for value in values)
        return re.compile(re.sub("x", any_digit, choices), re.ASCII)

    def _patterns(self, key: str) -> tuple[re.Pattern[str], ...]:
        return tuple(self._compiled(key, text) for text in self._list(key))

    def _compiled(self, key: str, text: str) -> re.Pattern[str]:
        fault = _pattern_fault(text)
        try:
            compiled = re.compile(text, re.ASCII)
        except re.error as error:
            compiled, fault = re.compile(""), f"is no regular expression: {error}"
        if not fault and compiled.search(""):
            fault = "is found in every text"
        if fault:
            self._wrong(f"pattern {text!r} in {key!r} {fault}")
        return compiled


def _pattern_fault(text: str) -> str:
    """What makes a pattern unfit, if anything: above all, time that is not bounded."""
    gaps = 0
    before = ""
    for token in _TOKEN.findall(text):
        gaps += token[0] == "{" and len(token) > 1
        fault = _token_fault(token, before)
        if fault:
            return fault
        before = token
    return f"has more than {_GAPS} gaps like .{{0,40}}" if gaps > _GAPS else ""


_FORBIDDEN: Mapping[str, Callable[[str, str], bool]] = {
    f"repeats without a bound; write {{0,40}}, at most {_GAP_LIMIT}": (
        lambda token, _: token in {"*", "+"} or (token[0] == "{" and not _bound(token))
    ),
    "repeats a group, which can take for ever": (
        lambda token, before: before == ")" and token[0] == "{"
    ),
    "looks around or names a group; only (?:...) is allowed": (
        lambda symbol, _: symbol == "(?"
    ),
    "refers back to a group": (
        lambda token, _: token[0] == "\\" and token[1:].isdigit()
    ),
    "has a capital letter, but replies are matched in lower case": (
        lambda token, _: token[0] != "\\" and token != token.lower()
    ),
}


def _token_fault(token: str, before: str) -> str:
    wrong = (words for words, test in _FORBIDDEN.items() if test(token, before))
    return next(wrong, "")


def _bound(token: str) -> bool:
    found = _BRACE.fullmatch(token)
    return found is not None and int(found[1]) <= _GAP_LIMIT
