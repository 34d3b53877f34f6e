"""The `fwdmta` command: accounts, the queue, timelines, the rules, the demo.

Doorway: `main(argv) -> exit status`: 0 done, 1 the answer is no, 2 used wrongly. Errors
are one line each on standard error and say what to do.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from io import TextIOWrapper
from typing import NoReturn, TypeAlias

from typing_extensions import override

from fwd_mta.admin import (
    account_verbs,
    change_verbs,
    client_config,
    dkim_verbs,
    domain_verbs,
    limit_verbs,
    queue_verbs,
    retention_verbs,
    rule_verbs,
    try_verb,
)
from fwd_mta.admin.accounts import NOTIFY_WORDS, AccountsError
from fwd_mta.admin.asking import CommandError
from fwd_mta.admin.client_config import FORMATS, PORTS
from fwd_mta.admin.command import (
    DONE,
    MISUSED,
    NO,
    Options,
    Run,
    Surroundings,
    UsageError,
    complain,
    real,
)
from fwd_mta.config import PLACES, ConfigError
from fwd_mta.kinds import Wrong, duration
from fwd_mta.mail.entry import Category, Stage, Status

_MOST_DAYS = 60


def main(
    argv: Sequence[str] | None = None, surroundings: Surroundings | None = None
) -> int:
    """Run the command; gives its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # An address of other letters than the terminal's is escaped, not an error.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if words[:1] == ["demo"]:
        return _demo(words[1:])
    try:
        options = _parser().parse_args(words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else MISUSED
    try:
        return _run(options, surroundings or real())
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # noqa: TID251 - no file of ours
        return DONE
    except KeyboardInterrupt:
        return NO


def _run(options: Options, world: Surroundings) -> int:
    run: Run = options.run
    try:
        status = run(options, world)
        sys.stdout.flush()
    except UsageError as error:
        return complain(MISUSED, str(error))
    except ConfigError as error:
        return complain(NO, *map(str, error.problems))
    except (CommandError, AccountsError) as error:
        return complain(NO, str(error))
    return status


def _demo(words: list[str]) -> int:
    # Only the demo installs a reactor; the rest of the command needs none.
    from fwd_mta.admin import demo  # noqa: PLC0415

    return demo.run(words)


# The command line


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    @override
    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where to read on."""
        complain(MISUSED, f"{message}; see {self.prog} --help")
        raise SystemExit(MISUSED)


_Verbs: TypeAlias = "argparse._SubParsersAction[_Parser]"  # noqa: SLF001 - unnamed


def _parser() -> _Parser:
    parser = _Parser(prog="fwdmta", description="Runs a mail server, fwd_mta.")
    parser.add_argument(
        "--version", action="version", version=f"fwd_mta {version('fwd_mta')}"
    )
    _add_config(parser, default=None)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _add_account(verbs)
    _add_queue(verbs)
    _add_timeline(verbs)
    _add_retention(verbs)
    _add_rules(verbs)
    _add_dkim(verbs)
    _add_domain(verbs)
    _add_simulate(verbs)
    _add_try(verbs)
    verbs.add_parser("demo", help="show the main job here; --once ends by itself")
    return parser


def _simulate(options: Options, world: Surroundings) -> int:
    # A whole server in memory is only imported where one is wanted.
    from fwd_mta.admin import simulate_verb  # noqa: PLC0415

    return simulate_verb.simulate(options, world)


def _add_simulate(verbs: _Verbs) -> None:
    says = "say what a configuration would do with some days of mail, and with troubles"
    parser = _verb(verbs, "simulate", _simulate, says)
    add = parser.add_argument
    add("--traffic", metavar="FILE", help="mail to send, a JSON object a line")
    add("--days", type=_days, default=2.0, help="days of mail; default: 2")
    add("--svg", metavar="FILE", help="write a plot, too")
    add("--seed", type=int, default=1, help="of the mail that is made up")
    add(
        "--fault",
        metavar="NAME[=DOMAIN][@START[+LENGTH]]",
        action="append",
        default=[],
        help='a trouble, as in "down=example.org@2h+1d"; may be given more than once',
    )
    _add_json(parser)


def _add_try(verbs: _Verbs) -> None:
    says = "say whether a client could send from here; no message is sent"
    parser = verbs.add_parser("try", help=says, description=says)
    parser.set_defaults(run=try_verb.try_out)
    add = parser.add_argument
    add("host", metavar="HOST", help="the server's name, as clients are set to")
    add("login", metavar="LOGIN")
    add("--password-stdin", action="store_true", help="read it from standard input")
    add("--from", dest="sender", metavar="ADDRESS", help="default: the login")
    add(
        "--port",
        type=try_verb.port,
        metavar="N[/tls]",
        action="append",
        help="default: 465 (TLS from the first byte) and 587 (STARTTLS)",
    )
    add("--ca", metavar="FILE", help="authorities to trust instead of the system's")
    _add_json(parser)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError("want a number of days") from error
    if not 0 < days <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"want a number up to {_MOST_DAYS}")
    return days


def _add_config(parser: _Parser, default: object = argparse.SUPPRESS) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=default,
        help=f"the configuration; default: {PLACES[0]} here, then {PLACES[1]}",
    )


def _verb(verbs: _Verbs, name: str, run: Run, says: str) -> _Parser:
    """Add a verb that can be run, with what all of them take."""
    parser: _Parser = verbs.add_parser(name, help=says, description=says)
    parser.set_defaults(run=run)
    _add_config(parser)
    return parser


def _add_json(parser: _Parser) -> None:
    parser.add_argument("--json", action="store_true", help="a JSON object a line")


def _add_account(verbs: _Verbs) -> None:
    account = verbs.add_parser("account", help="who may send")
    _add_config(account)
    below = account.add_subparsers(metavar="VERB", required=True)
    add = _verb(below, "add", account_verbs.add, "add an account")
    add.add_argument("login", metavar="LOGIN", help="the full address, or *@domain")
    _add_password(add)
    add.add_argument(
        "--send-as",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="an address, or *@domain, to send as; default: the login",
    )
    add.add_argument(
        "--notify",
        action="append",
        default=[],
        choices=NOTIFY_WORDS,
        help="a notice to send when the client asks for none itself",
    )
    password = _verb(below, "password", account_verbs.password, "give a new password")
    password.add_argument("login", metavar="LOGIN")
    _add_password(password)
    password.add_argument(
        "--keep-old",
        action="store_true",
        help="the old one goes on working too",
    )
    _add_json(_verb(below, "list", account_verbs.list_all, "list the accounts"))
    for name, run, says in (
        ("enable", account_verbs.enable, "let an account send"),
        ("disable", account_verbs.disable, "let an account send no more"),
        ("remove", account_verbs.remove, "remove an account"),
    ):
        _verb(below, name, run, says).add_argument("login", metavar="LOGIN")


def _add_password(parser: _Parser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--password-stdin", action="store_true", help="read it from standard input"
    )
    how.add_argument("--generate", action="store_true", help="make one and print it")


def _add_queue(verbs: _Verbs) -> None:
    queue = verbs.add_parser("queue", help="what waits, and what to do about it")
    _add_config(queue)
    below = queue.add_subparsers(metavar="VERB", required=True)
    listing = _verb(below, "list", queue_verbs.list_all, "list what waits")
    listing.add_argument("--all", action="store_true", help="finished messages too")
    counting = _verb(below, "count", queue_verbs.count, "count messages by state")
    for parser in (listing, counting):
        _add_filter(parser)
        _add_json(parser)
    showing = _verb(below, "show", queue_verbs.show_one, "show all about one message")
    showing.add_argument("id", metavar="ID")
    _add_json(showing)
    content = _verb(below, "cat", queue_verbs.cat, "write out the content of a message")
    content.add_argument("id", metavar="ID")
    for name, says in (
        ("hold", "keep messages from being tried"),
        ("release", "let messages go on from hold"),
        ("retry", "try messages now"),
        ("cancel", "give up on messages; nobody is notified"),
        ("route", "send messages by another next hop, now"),
    ):
        _add_change(below, name, says)
    shaping = _verb(below, "shape", queue_verbs.shape, "count by site and age")
    shaping.add_argument("--by", choices=("site", "domain"), default="site")
    _add_json(shaping)


def _add_change(verbs: _Verbs, name: str, says: str) -> None:
    parser = _verb(verbs, name, change_verbs.change, says)
    parser.set_defaults(change=name)
    parser.add_argument("ids", metavar="ID", nargs="*")
    parser.add_argument("--dry-run", action="store_true", help="only say how many")
    if name == "route":
        parser.add_argument(
            "--via",
            metavar="NEXT-HOP",
            required=True,
            help='as in [delivery.transport]; "usual": as the settings say',
        )
    parser.add_argument("--all", action="store_true", help="all that waits")
    parser.add_argument("--reason", default="", help="a note for the timeline")
    _add_filter(parser)
    _add_json(parser)


def _age(text: str) -> float:
    kind = duration()
    try:
        return kind.read(text)
    except Wrong as wrong:
        raise argparse.ArgumentTypeError(f"{wrong}, as in {kind.allowed}") from wrong


def _add_filter(parser: _Parser) -> None:
    add = parser.add_argument_group("filters").add_argument
    add("--from", dest="sender", metavar="ADDRESS", help='the sender; "<>" for notices')
    add("--to", metavar="ADDRESS", help="a recipient")
    add("--domain", help="the domain of a recipient")
    add("--account", metavar="LOGIN", help="who submitted it")
    add(
        "--state",
        action="append",
        default=[],
        choices=[*map(str, Status), queue_verbs.HELD],
        help="may be given more than once",
    )
    add("--older-than", type=_age, metavar="AGE", help='as in "4h" or "2d"')
    add("--newer-than", type=_age, metavar="AGE", help="came since then")
    add("--message-id", metavar="MESSAGE-ID", help="of the message itself")
    add(
        "--category",
        choices=[*map(str, Category)],
        help="of the last answer",
    )


def _add_timeline(verbs: _Verbs) -> None:
    parser = _verb(
        verbs, "timeline", queue_verbs.timeline, "show what happened to a message"
    )
    parser.add_argument("id", metavar="ID|MESSAGE-ID")
    parser.add_argument(
        "--follow", action="store_true", help="go on as it happens, until it is over"
    )
    _add_json(parser)
    parser = _verb(
        verbs, "why", queue_verbs.why, "say why a message, or mail to a site, waits"
    )
    parser.add_argument("name", metavar="ID|ADDRESS|DOMAIN|SITE")
    _add_json(parser)
    parser = _verb(
        verbs, "limits", limit_verbs.limits, "say what an account may still send"
    )
    parser.add_argument("login", metavar="LOGIN")
    _add_json(parser)
    parser = _verb(
        verbs, "client-config", client_config.client_config, "say how a client is set"
    )
    parser.add_argument("login", metavar="LOGIN")
    parser.add_argument("--format", choices=sorted(FORMATS), default="thunderbird")
    parser.add_argument("--port", type=int, choices=PORTS, default=PORTS[0])
    parser.add_argument(
        "--from", dest="sender", metavar="ADDRESS", default="", help="the sender"
    )
    parser.add_argument(
        "--imap", metavar="HOST", default="", help="where mail is read, if elsewhere"
    )
    parser.add_argument(
        "--notices",
        action="store_true",
        help="have the client ask for a notice of delivery, where it can",
    )


def _add_retention(verbs: _Verbs) -> None:
    retention = verbs.add_parser("retention", help="finished mail: what is kept")
    _add_config(retention)
    below = retention.add_subparsers(metavar="VERB", required=True)
    _add_json(_verb(below, "status", retention_verbs.status, "show terms and figures"))
    says = "read every byte of the queue; say where content is past its time"
    _add_json(_verb(below, "verify", retention_verbs.verify, says))
    erasing = _verb(below, "redact", retention_verbs.redact, "erase content now")
    erasing.add_argument("ids", metavar="ID", nargs="*")
    erasing.add_argument("--recipient", metavar="ADDRESS", help="all finished mail to")
    _add_json(erasing)
    for name, change, says in (
        ("hold", "keep", "keep finished messages, as evidence"),
        ("release", "let-go", "let their time count again"),
    ):
        parser = _verb(below, name, retention_verbs.keep, says)
        parser.set_defaults(change=change)
        parser.add_argument("ids", metavar="ID", nargs="+")
        parser.add_argument("--reason", default="", help="a note for the timeline")
        _add_json(parser)
    checking = _verb(verbs, "fsck", retention_verbs.fsck, "check every file of ours")
    checking.add_argument(
        "--repair",
        action="store_true",
        help="file misplaced mail anew, set damaged files aside; without a server",
    )
    checking.add_argument(
        "--reindex", action="store_true", help="only make the index anew from the files"
    )
    _add_json(checking)
    writing = _verb(
        verbs, "export", retention_verbs.export, "write messages as plain files"
    )
    writing.add_argument("directory", metavar="DIRECTORY", help="a new one")
    writing.add_argument("--all", action="store_true", help="finished messages too")


def _add_dkim(verbs: _Verbs) -> None:
    dkim = verbs.add_parser("dkim", help="keys that sign")
    below = dkim.add_subparsers(metavar="VERB", required=True)
    making = _verb(below, "new", dkim_verbs.new, "make a key; print its DNS record")
    making.add_argument("domain", metavar="DOMAIN", help="that of From")
    making.add_argument("--selector", default="fwd1", help="default: fwd1")
    making.add_argument(
        "--algorithm",
        default="rsa",
        choices=dkim_verbs.ALGORITHMS,
        help="rsa is verified by all, ed25519 by many; both may sign",
    )
    making.add_argument("--out", metavar="FILE", help="default: DOMAIN.SELECTOR.pem")


def _add_domain(verbs: _Verbs) -> None:
    domain = verbs.add_parser("domain", help="what a domain publishes")
    below = domain.add_subparsers(metavar="VERB", required=True)
    new = _verb(below, "new", domain_verbs.new, "print its DNS records, a zone file")
    new.add_argument("domain", metavar="DOMAIN", help="that of From")
    new.add_argument("--report-to", metavar="ADDRESS", help="default: postmaster there")
    new.add_argument(
        "--verify", action="store_true", help="wait until they are right in DNS"
    )
    new.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="how long --verify waits; default: 600",
    )


def _add_rules(verbs: _Verbs) -> None:
    checking = _verb(
        verbs, "check", rule_verbs.check, "check the configuration and its files"
    )
    checking.add_argument(
        "--deep",
        action="store_true",
        help="DNS, certificates' ends and the disk as well",
    )
    _add_json(checking)
    times = _verb(verbs, "schedule", rule_verbs.schedule, "print every retry time")
    _add_json(times)
    info = _verb(
        verbs, "bounce-info", rule_verbs.bounce_info, "say what a server's reply means"
    )
    info.add_argument("replies", metavar="REPLY", nargs="*", help="in quotes")
    info.add_argument(
        "--json-lines", action="store_true", help="replies on standard input"
    )
    info.add_argument(
        "--stage",
        default=Stage.RCPT.value,
        choices=[*map(str, Stage)],
        help="where in the dialogue the reply came; default: rcpt",
    )
    _add_json(info)
