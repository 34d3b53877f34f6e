"""`fwdmta client-config LOGIN --format FORMAT`: what to write into a client.

The texts are templates beside this file; no password is ever put into one.
"""

from collections.abc import Callable
from importlib.resources import files
from xml.sax.saxutils import escape

from fwd_mta.admin.command import (
    DONE,
    Options,
    Surroundings,
    complain,
    configuration_of,
)

USED_WRONGLY = 2

_Quote = Callable[[str], str]


def _in_quotes(word: str) -> str:
    """A word between the single quotes of most languages."""
    return word.replace("\\", "\\\\").replace("'", "\\'")


def _as_it_is(word: str) -> str:
    return word


# each format's file, and how a login is written into it
FORMATS: dict[str, tuple[str, _Quote]] = {
    "autoconfig": ("autoconfig.xml", escape),
    "django": ("django.txt", _in_quotes),
    "gmail": ("gmail.txt", _as_it_is),
    "javamail": ("javamail.txt", _as_it_is),
    "laravel": ("laravel.txt", _in_quotes),
    "msmtp": ("msmtp.txt", _as_it_is),
    "nodemailer": ("nodemailer.txt", _in_quotes),
    "phpmailer": ("phpmailer.txt", _in_quotes),
    "ruby": ("ruby.txt", _in_quotes),
    "smtplib": ("smtplib.txt", _in_quotes),
    "srv": ("srv.txt", _as_it_is),
    "thunderbird": ("thunderbird.txt", _as_it_is),
}


def client_config(options: Options, world: Surroundings) -> int:
    """`client-config LOGIN`."""
    del world
    login = options.login
    if not login.isprintable() or " " in login or "@" not in login.strip("@"):
        return complain(USED_WRONGLY, f"{login!r} is no login; write the full address")
    print(filled(options.format, configuration_of(options).hostname, login), end="")
    return DONE


def filled(name: str, host: str, login: str) -> str:
    """A format's text for an account of a server."""
    file, quote = FORMATS[name]
    text = files("fwd_mta.admin").joinpath("clients", file).read_text("utf-8")
    domain = login.rpartition("@")[2]
    # the login last: what it holds is not looked at again
    text = text.replace("@HOST@", quote(host)).replace("@DOMAIN@", quote(domain))
    return text.replace("@LOGIN@", quote(login))
