"""What mail data means, written a second time, slowly and simply: to compare with."""

import re


def split_data(stream: bytes) -> tuple[bytes, bytes] | None:
    """The content behind DATA and what follows the final dot; None without an end."""
    taken: list[bytes] = []
    rest = stream
    while True:
        line, mark, rest = rest.partition(b"\r\n")
        if not mark:
            return None
        if line == b".":
            return b"".join(taken), rest
        taken.append((line[1:] if line.startswith(b".") else line) + mark)


def meant(content: bytes) -> bytes | None:
    """The content as it is kept, bare LF mended; None where it must be refused."""
    octets = content.replace(b"\r\n", b"\n")
    if b"\r" in octets or b"\0" in octets:
        return None
    octets = octets.replace(b"\n", b"\r\n")
    return octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"


def body_of(content: bytes) -> bytes:
    """What is behind the first empty line."""
    if content.startswith(b"\r\n"):
        return content[2:]
    return content.partition(b"\r\n\r\n")[2]


def pieces(stream: bytes, cuts: bytes) -> list[bytes]:
    """The stream in segments, whose lengths the cuts tell, over and over."""
    lengths = [1 + cut % 16 for cut in cuts] or [1]
    made: list[bytes] = []
    at = 0
    while at < len(stream):
        length = lengths[len(made) % len(lengths)]
        made.append(stream[at : at + length])
        at += length
    return made


def final_replies(heard: bytes) -> list[bytes]:
    """The last line of each reply; AssertionError for what is no reply."""
    lines = heard.split(b"\r\n")
    assert lines.pop() == b"", "a reply without its end"
    for line in lines:
        assert re.fullmatch(rb"[2-5][0-9]{2}[ -][ -~]{0,506}", line), line
    return [line for line in lines if line[3:4] == b" "]
