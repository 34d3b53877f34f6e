"""Attachments that run when they are opened: by name, by content, inside of archives.

Pure. Doorways: `judge_name`, `judge_start`, `ZipNames`.
"""

import re
from collections.abc import Iterator
from struct import unpack_from

from fwd_mta.rules.links import Doubt

# What Windows runs at a double click, and what large providers refuse
_RUN = (
    "ade adp appx appxbundle bat chm cmd com cpl diagcab dll exe hta ins isp jar jnlp"
    " js jse lnk mde mjs msc msi msix msp mst pif ps1 scf scr sct shb sys vb vbe vbs"
    " vxd wsc wsf wsh xll"
)
EXECUTABLE = frozenset(_RUN.split())
# In an archive only what no source tree or web page holds
_RUN_PACKED = "cpl exe hta jse lnk msi pif scr vbe vbs wsf wsh"
IN_ARCHIVE = frozenset(_RUN_PACKED.split())
_DOCUMENT = "pdf|docx?|xlsx?|pptx?|odt|rtf|txt|csv|jpe?g|png|gif|html?|mp[34]|zip"
_DOUBLE = re.compile(rf"\.(?:{_DOCUMENT})[\s._\u00a0-]*\.\w{{2,4}}\Z", re.IGNORECASE)
_REVERSING = frozenset("\u202e\u202d\u2066\u2067\u2068")

START = 4096
_ELF = b"\x7fELF"
_MACH_O = (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xfe\xed\xfa\xcf")
_SHORTCUT = b"L\0\0\0\x01\x14\x02\0"
ZIP = b"PK\x03\x04"
_DIRECTORY = re.compile(rb"PK\x01\x02")
_DIRECTORY_SIZE = 46
_NAME_LIMIT = 1024
_SHOWN_NAME = 100


def judge_name(name: str) -> Iterator[Doubt]:
    """What is wrong with an attachment's name."""
    if _REVERSING & set(name):
        yield Doubt("double-extension", "a name with reversed letters")
    plain = name.strip().rstrip(". ")
    if _ending(plain) not in EXECUTABLE:
        return
    rule = "double-extension" if _DOUBLE.search(plain) else "executable-name"
    yield Doubt(rule, plain[-_SHOWN_NAME:])


def judge_start(start: bytes, name: str) -> Iterator[Doubt]:
    """What is wrong with the first octets of a part."""
    kind = _kind(start)
    if kind:
        yield Doubt("executable-content", f"{name[-_SHOWN_NAME:] or 'a part'} ({kind})")


def _kind(start: bytes) -> str:
    if start.startswith(b"MZ") and _is_portable_executable(start):
        return "Windows program"
    if start.startswith(_ELF):
        return "ELF program"
    if start.startswith(_MACH_O):
        return "Mach-O program"
    return "Windows shortcut" if start.startswith(_SHORTCUT) else ""


def _is_portable_executable(start: bytes) -> bool:
    """Whether the old header points to a new one: a text may begin with MZ."""
    if len(start) < 64:
        return False
    (at,) = unpack_from("<I", start, 60)
    return at >= 64 and start[at : at + 2] in {b"PE", b"NE", b"LE"}


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


class ZipNames:
    """Reads the directory of a zip as it goes by; archives in it are not opened.

    `expanded` is the sum of the sizes it announces.
    """

    def __init__(self) -> None:
        self.expanded = 0
        self.has_macro = False
        self.is_encrypted = False
        self.executable: str | None = None
        self._rest = b""

    def feed(self, octets: bytes) -> None:
        """Take more of the archive."""
        data = self._rest + octets
        done = 0
        for match in _DIRECTORY.finditer(data):
            if match.start() < done:
                continue
            end = self._entry(data, match.start())
            if end is None:
                self._rest = data[match.start() :]
                return
            done = end
        self._rest = data[max(done, len(data) - 3) :]

    def _entry(self, data: bytes, at: int) -> int | None:
        """Note one entry; its end, or None while it is not all here."""
        if len(data) < at + _DIRECTORY_SIZE:
            return None
        (flags,) = unpack_from("<H", data, at + 8)
        size, length = unpack_from("<IH", data, at + 24)
        if length > _NAME_LIMIT:
            return at + 4
        end = at + _DIRECTORY_SIZE + int(length)
        if len(data) < end:
            return None
        name = data[at + _DIRECTORY_SIZE : end].decode("utf-8", "replace")
        self.expanded += size
        self.is_encrypted = self.is_encrypted or bool(flags & 1)
        self.has_macro = self.has_macro or name.lower().endswith("vbaproject.bin")
        plain = name.rstrip(". ")
        if self.executable is None and _ending(plain) in IN_ARCHIVE:
            self.executable = plain[-_SHOWN_NAME:]
        return end
