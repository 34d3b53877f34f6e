"""Queue ids: unique for ever, sorted by time, safe in any file name and header."""

import re

_LETTERS = "0123456789bcdfghjkmnpqrstvwxyz"
_TIME_LETTERS = 9
_CHANCE_LETTERS = 7
_PAIRS = [one + other for one in _LETTERS for other in _LETTERS]
_ID = re.compile(f"[{_LETTERS}]{{16}}(-[0-9]{{1,9}})?\\Z")


def entry_id(now: float, octets: bytes) -> str:
    """Make an id: milliseconds since the epoch, then chance (8 octets are enough).

    Nine letters of thirty hold milliseconds until the year 2593; no vowels, so that
    no id spells a word.
    """
    moment = _letters(int(now * 1000), _TIME_LETTERS)
    return moment + _letters(int.from_bytes(octets[:8], "big"), _CHANCE_LETTERS)


def is_entry_id(text: str) -> bool:
    """Whether the text can be an id of ours; nothing else becomes a file name."""
    return _ID.match(text) is not None


def notice_id(cause: str, number: int) -> str:
    """Derive a notice's id from its cause, so that paying twice writes once."""
    return f"{cause.partition('-')[0]}-{number}"


def id_bound(at: float) -> str:
    """A text that no id made before a time is beyond, and each later one is."""
    return _letters(max(0, int(at * 1000)), _TIME_LETTERS)


def made_at(text: str) -> float:
    """When an id, or the cause of a notice's id, was made: seconds since the epoch."""
    number = 0
    for letter in text[:_TIME_LETTERS]:
        number = number * len(_LETTERS) + max(0, _LETTERS.find(letter))
    return number / 1000


def _letters(number: int, length: int) -> str:
    """So many last digits of a number, for an odd length: one, then pairs."""
    text = ""
    for _ in range(length // 2):
        number, place = divmod(number, len(_PAIRS))
        text = _PAIRS[place] + text
    return _LETTERS[number % len(_LETTERS)] + text
