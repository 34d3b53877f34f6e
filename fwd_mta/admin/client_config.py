"""`fwdmta client-config LOGIN --format FORMAT`: what to write into a client.

The texts are templates beside this file; no password is ever put into one. What varies
stands there as `@NAME@`. A line that begins with `465|`, `587|` or `dsn|` is printed,
without that mark, for that port alone or where notices are asked for.
"""

import re
import shlex
import uuid  # noqa: TID251 - names made from names, no chance in them
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import quote as in_url
from xml.sax.saxutils import escape

from fwd_mta.admin.command import (
    DONE,
    Options,
    Surroundings,
    complain,
    configuration_of,
)

USED_WRONGLY = 2
PORTS = (465, 587)


_Quote = Callable[[str], str]
_PLACE = re.compile("@([A-Z_]+)@")
_MARK = re.compile(r"(465|587|dsn)\|")


def _in_single(word: str) -> str:
    """A word between the single quotes of most languages."""
    return word.replace("\\", "\\\\").replace("'", "\\'")


def _in_double(word: str) -> str:
    """A word between the double quotes of Java, Go and mutt."""
    return word.replace("\\", "\\\\").replace('"', '\\"').replace("$", r"\$")


def _in_strict_double(word: str) -> str:
    """The same where a dollar is no more than a dollar."""
    return word.replace("\\", "\\\\").replace('"', '\\"')


def _as_it_is(word: str) -> str:
    return word


# each format's file, and how a word of the operator is written into it
FORMATS: dict[str, tuple[str, _Quote]] = {
    "aiosmtplib": ("aiosmtplib.txt", _in_strict_double),
    "apple": ("apple.txt", _as_it_is),
    "autoconfig": ("autoconfig.xml", escape),
    "autodiscover": ("autodiscover.xml", escape),
    "curl": ("curl.txt", shlex.quote),
    "django": ("django.txt", _in_strict_double),
    "exim": ("exim.txt", _as_it_is),
    "express": ("express.txt", _in_single),
    "git": ("git.txt", _as_it_is),
    "gmail": ("gmail.txt", _as_it_is),
    "go": ("go.txt", _in_strict_double),
    "jakarta": ("java.txt", _in_strict_double),
    "javamail": ("java.txt", _in_strict_double),
    "laravel": ("laravel.txt", _in_single),
    "mobileconfig": ("apple.mobileconfig", escape),
    "msmtp": ("msmtp.txt", _as_it_is),
    "mutt": ("mutt.txt", _in_double),
    "nodemailer": ("nodemailer.txt", _in_single),
    "perl": ("perl.txt", _in_single),
    "phpmailer": ("phpmailer.txt", _in_single),
    "postfix": ("postfix.txt", _as_it_is),
    "ruby": ("ruby.txt", _in_single),
    "s-nail": ("s-nail.txt", _as_it_is),
    "smtplib": ("smtplib.txt", _in_strict_double),
    "srv": ("srv.txt", _as_it_is),
    "swaks": ("swaks.txt", shlex.quote),
    "symfony": ("symfony.txt", _in_single),
    "thunderbird": ("thunderbird.txt", _as_it_is),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is filled in: the server, the account, and the choices of who asks."""

    host: str
    login: str
    sender: str = ""
    port: int = 465
    imap: str = ""
    notices: bool = False


def client_config(options: Options, world: Surroundings) -> int:
    """`client-config LOGIN`."""
    del world
    for address in filter(None, (options.login, options.sender)):
        if not _is_address(address):
            words = (
                f"{address!r} is no address; write it in full, as in you@example.com"
            )
            return complain(USED_WRONGLY, words)
    wanted = Wanted(
        host=configuration_of(options).hostname,
        login=options.login,
        sender=options.sender,
        port=options.port,
        imap=options.imap,
        notices=options.notices,
    )
    print(filled(options.format, wanted), end="")
    return DONE


def _is_address(text: str) -> bool:
    return text.isprintable() and " " not in text and "@" in text.strip("@")


def filled(name: str, wanted: Wanted) -> str:
    """The text of a format for an account of a server."""
    file, quote = FORMATS[name]
    text = files("fwd_mta.admin").joinpath("clients", file).read_text("utf-8")
    words = {place: quote(word) for place, word in _words(wanted).items()}
    words["PACKAGE"] = "jakarta.mail" if name == "jakarta" else "javax.mail"
    return "".join(
        # in one pass: what a login holds is not looked at again
        _PLACE.sub(lambda place: words[place[1]], line)
        for line in _chosen(text, wanted)
    )


def _chosen(text: str, wanted: Wanted) -> list[str]:
    """The lines for its port, without their marks."""
    marks = {str(wanted.port)} | ({"dsn"} if wanted.notices else set())
    lines = text.splitlines(keepends=True)
    return [
        _MARK.sub("", line, count=1)
        for line in lines
        if not (mark := _MARK.match(line)) or mark[1] in marks
    ]


def _words(wanted: Wanted) -> dict[str, str]:
    login, host = wanted.login, wanted.host
    # a profile that is installed again takes the place of the first by these
    url = f"fwdmta://{host}/{login}"
    return {
        "HOST": host,
        "PORT": str(wanted.port),
        "LOGIN": login,
        "LOGIN_IN_URL": in_url(login, safe=""),
        "DOMAIN": login.rpartition("@")[2],
        "FROM": wanted.sender or login,
        "IMAP": wanted.imap or host,
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, url)).upper(),
        "UUID_OF_MAIL": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{url}/mail")).upper(),
    }
