"""TOML to nouns: every setting, what it may be, and its default, in one table.

The table is the dataclasses below: a field names a key, its kind says how the value is
read and what is allowed, its default is written as in the file. `KEYS` lists them all.
Doorway: `locate`, `load`, `parse`, `check`. Unknown keys are errors, and all errors are
reported at once.
"""

# ruff: noqa: RUF009 - the calls in the dataclasses declare fields

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path  # noqa: TID251 - this module reads the files it names

from OpenSSL import SSL

from fwd_mta.inbound.accounts import AccountsFault, parse_accounts
from fwd_mta.kinds import (
    ADDRESS,
    COUNT,
    DOMAIN,
    HOSTNAME,
    IP,
    LISTEN_ADDRESS,
    LOGIN,
    MAILBOX,
    NAME_SERVER,
    NETWORK,
    PATH,
    PORT,
    RELAYHOST,
    TEXT,
    TRANSPORT,
    TRANSPORT_KEY,
    URL,
    YES_NO,
    Network,
    choice,
    count,
    duration,
    many,
    size,
    socket,
)
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.route import TlsLevel, TlsMode
from fwd_mta.mail.session import Service
from fwd_mta.net.sql import BadDatabase, check_query, check_url, try_once
from fwd_mta.net.tls import server_context
from fwd_mta.rules.classification import RuleTable
from fwd_mta.rules.notice_words import LANGUAGES
from fwd_mta.rules.signing import signing_key
from fwd_mta.tables import (
    ConfigError,
    Key,
    Problem,
    Reader,
    group,
    groups,
    key,
    keys_of,
    needed,
    optional,
    optional_group,
    pairs,
)

__all__ = [
    "KEYS",
    "ConfigError",
    "Configuration",
    "Problem",
    "check",
    "is_there",
    "load",
    "locate",
    "parse",
    "rule_table",
]

SECRET_KEY = "delivery.relayhost_password_file"  # noqa: S105 - a key, no secret
_STATE_DIR_LIMIT = 107 - len("/control.sock")  # of what the address of a socket holds
PLACES = ("fwdmta.toml", "/etc/fwdmta/fwdmta.toml")


# The table


@dataclass(frozen=True, slots=True)
class Listener:
    """A `[[listener]]`: what is offered at which address, and to whom."""

    service: Service = needed(choice(Service), "say what it is for")
    address: str = needed(LISTEN_ADDRESS, 'say where, as in address = "0.0.0.0:465"')
    trusted_networks: tuple[Network, ...] = key(many(NETWORK), [])
    proxy_protocol_from: tuple[Network, ...] = key(many(NETWORK), [])


DEFAULT_LISTENERS = (
    Listener(Service.SUBMISSIONS, "0.0.0.0:465"),
    Listener(Service.SUBMISSION, "0.0.0.0:587"),
)


@dataclass(frozen=True, slots=True)
class Sni:
    """A `[[tls.sni]]`: another certificate, for other names of ours."""

    names: tuple[str, ...] = needed(many(DOMAIN), "write the names, in a list")
    certificate: str = needed(PATH, "name the file of the certificate chain")
    private_key: str = needed(PATH, "name the file of the private key")


@dataclass(frozen=True, slots=True)
class Also:
    """A `[[tls.also]]`: the same names, with a key of another kind."""

    certificate: str = needed(PATH, "name the file of the certificate chain")
    private_key: str = needed(PATH, "name the file of the private key")


@dataclass(frozen=True, slots=True)
class Tls:
    """`[tls]`: what we show to clients."""

    certificate: str = key(PATH, "/etc/fwdmta/tls/fullchain.pem")
    private_key: str = key(PATH, "/etc/fwdmta/tls/privkey.pem")
    also: tuple[Also, ...] = groups(Also)
    sni: tuple[Sni, ...] = groups(Sni)


@dataclass(frozen=True, slots=True)
class Sql:
    """`accounts.sql`: accounts in a database."""

    url: str = needed(URL, 'write the database, as in url = "postgresql://…"')
    password_query: str = needed(TEXT, "write the query that gives the password")
    scram: bool = key(YES_NO, False)


@dataclass(frozen=True, slots=True)
class AccountSources:
    """`[accounts]`: where accounts are looked up."""

    file: str = key(PATH, "/etc/fwdmta/accounts.toml")
    sql: Sql | None = optional_group(Sql)
    dovecot: str | None = optional(socket("unix", "tcp"))


@dataclass(frozen=True, slots=True)
class Submission:
    """`[submission]`: what a message may be."""

    message_size_limit: int = key(size(least=1000), "50MB")
    recipient_limit: int = key(count(1, 50_000), 1000)
    hopcount_limit: int = key(count(1, 1000), 50)
    bare_newline: str = key(choice("normalize", "reject"), "normalize")
    long_lines: str = key(choice("encode", "reject"), "encode")
    duplicate_window: float = key(duration(), "10m")
    trace_client: bool = key(YES_NO, False)


@dataclass(frozen=True, slots=True)
class Limits:
    """`[limits]`: how much one client, or one account, may take."""

    connections_per_client: int = key(count(1), 50)
    connections_per_account: int = key(count(1), 60)
    exempt: tuple[Network, ...] = key(many(NETWORK), [])
    auth_failures_per_client: int = key(count(1), 10)
    auth_failure_window: float = key(duration(least=1), "1h")
    messages_per_account: int = key(COUNT, 0)
    recipients_per_account: int = key(COUNT, 0)
    messages_window: float = key(duration(least=1), "1d")
    suspend_after: int = key(COUNT, 20)
    suspend_window: float = key(duration(least=1), "1h")


@dataclass(frozen=True, slots=True)
class Queue:
    """`[queue]`: how long mail waits, and how often it is tried."""

    maximal_queue_lifetime: float = key(duration(), "5d")
    bounce_queue_lifetime: float = key(duration(), "5d")
    minimal_backoff_time: float = key(duration(least=1), "300s")
    maximal_backoff_time: float = key(duration(least=1), "4000s")
    delay_warning_time: float = key(duration(), "4h")
    bounce_size_limit: int = key(size(), "64KiB")
    minimum_free_space: int = key(size(), "100MB")
    index: bool = key(YES_NO, True)


@dataclass(frozen=True, slots=True)
class RetentionTerm:
    """A `[[retention.term]]`: another term for one account, or all of a domain."""

    account: str | None = optional(LOGIN)
    domain: str | None = optional(DOMAIN)
    content: float | None = optional(duration())
    record: float | None = optional(duration())


LANGUAGE = choice(*LANGUAGES)


@dataclass(frozen=True, slots=True)
class Notices:
    """`[notices]`: in which language senders are told; an account's own goes first."""

    language: str = key(LANGUAGE, "en")
    domains: tuple[tuple[str, str], ...] = pairs(DOMAIN, LANGUAGE)


@dataclass(frozen=True, slots=True)
class Retention:
    """`[retention]`: how long finished mail stays readable, and known."""

    content: float = key(duration(), "30d")
    record: float = key(duration(), "90d")
    terms: tuple[RetentionTerm, ...] = groups(RetentionTerm, "term")


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """A `[[delivery.tls_policy]]`: the TLS level towards one domain."""

    domain: str = needed(TRANSPORT_KEY, 'say for whom, as in domain = "example.com"')
    tls_security_level: TlsLevel = key(choice(TlsLevel), "may")


@dataclass(frozen=True, slots=True)
class DeliveryTimeouts:
    """`[delivery.timeouts]`: how long we wait for a peer (RFC 5321 4.5.3.2)."""

    connect: float = key(duration(least=1), "30s")
    greeting: float = key(duration(least=1), "5m")
    helo: float = key(duration(least=1), "5m")
    mail: float = key(duration(least=1), "5m")
    rcpt: float = key(duration(least=1), "5m")
    data_init: float = key(duration(least=1), "2m")
    data_block: float = key(duration(least=1), "3m")
    data_done: float = key(duration(least=1), "10m")
    quit: float = key(duration(least=1), "30s")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """`[delivery]`: how mail goes out."""

    relayhost: str | None = optional(RELAYHOST)
    relayhost_tls: TlsMode = key(choice(TlsMode), "starttls")
    relayhost_login: str | None = optional(TEXT)
    relayhost_password_file: str | None = optional(PATH)
    smtp_port: int = key(PORT, 25)
    inet_protocols: str = key(choice("all", "ipv4", "ipv6"), "all")
    source_addresses: tuple[str, ...] = key(many(IP), [])
    tls_security_level: TlsLevel = key(choice(TlsLevel), "may")
    tls_policy: tuple[TlsPolicy, ...] = groups(TlsPolicy)
    allow_private_destinations: bool = key(YES_NO, False)
    destination_concurrency_limit: int = key(count(1), 20)
    timeouts: DeliveryTimeouts = group(DeliveryTimeouts)
    transport: tuple[tuple[str, str], ...] = pairs(TRANSPORT_KEY, TRANSPORT)


@dataclass(frozen=True, slots=True)
class Dns:
    """`[dns]`: whom we ask, and what we believe."""

    nameservers: tuple[tuple[str, int], ...] = key(many(NAME_SERVER), [])
    trust_ad: bool = key(YES_NO, False)


ACTION = choice("reject", "tag", "note", "off")


@dataclass(frozen=True, slots=True)
class ScanRules:
    """`[scan.rules]`: what each check that needs no service does."""

    eicar: str = key(ACTION, "reject")
    gtube: str = key(ACTION, "reject")
    executable_name: str = key(ACTION, "reject")
    executable_content: str = key(ACTION, "reject")
    executable_in_archive: str = key(ACTION, "reject")
    double_extension: str = key(ACTION, "reject")
    mime_bomb: str = key(ACTION, "reject")
    encrypted_archive: str = key(ACTION, "note")
    display_name_address: str = key(ACTION, "note")
    link_mismatch: str = key(ACTION, "note")
    mixed_script_host: str = key(ACTION, "note")
    office_macro: str = key(ACTION, "note")
    pdf_launch: str = key(ACTION, "note")
    raw_address_link: str = key(ACTION, "note")


@dataclass(frozen=True, slots=True)
class Scan:
    """`[scan]`: who looks at a message before it is queued."""

    clamd: str | None = optional(socket("unix", "tcp"))
    rspamd: str | None = optional(URL)
    spamd: str | None = optional(socket("unix", "tcp"))
    spamd_reject_score: int = key(count(1, 1000), 15)
    milters: tuple[str, ...] = key(many(socket("inet", "unix")), [])
    on_error: str = key(choice("defer", "accept"), "defer")
    timeout: float = key(duration(least=1), "30s")
    rules: ScanRules = group(ScanRules)


@dataclass(frozen=True, slots=True)
class Dkim:
    """A `[[dkim]]`: the key that signs for a domain."""

    domain: str = needed(DOMAIN, 'say for whom, as in domain = "example.com"')
    selector: str = needed(DOMAIN, 'say which key, as in selector = "fwd1"')
    private_key: str = needed(PATH, "name the file of the private key")
    lifetime: float = key(duration(), "0")


@dataclass(frozen=True, slots=True)
class ReturnPath:
    """A `[[return_path]]`: where bounces of a domain's mail go."""

    domain: str = needed(DOMAIN, 'say for whom, as in domain = "example.com"')
    address: Mailbox = needed(
        ADDRESS, 'say where, as in address = "bounces@rp.example.com"'
    )


@dataclass(frozen=True, slots=True)
class TlsReporting:
    """`[tlsrpt]`: daily reports to domains that ask how TLS with them went."""

    sender: Mailbox | None = key(MAILBOX, "")
    organization: str | None = optional(TEXT)
    contact: str | None = optional(TEXT)


@dataclass(frozen=True, slots=True)
class Metrics:
    """`[metrics]`: where figures can be read."""

    address: str | None = optional(LISTEN_ADDRESS)


@dataclass(frozen=True, slots=True)
class Help:
    """`[help]`: where a person finds help; goes into replies and notices."""

    url: str | None = optional(URL)
    contact: str | None = optional(TEXT)


@dataclass(frozen=True, slots=True)
class Operator:
    """`[operator]`: who hears of alarms by mail, once per cause and day."""

    mail: Mailbox | None = key(MAILBOX, "")


@dataclass(frozen=True, slots=True)
class Processes:
    """`[processes]`: how many processes share the work."""

    receivers: int = key(count(0, 256), 0, later=True)


@dataclass(frozen=True, slots=True)
class Configuration:
    """All settings; `later` are lines on those that have no effect in this version."""

    hostname: str = needed(
        HOSTNAME,
        "write the full name of this host as the world knows it, as in"
        ' hostname = "mail.example.com"',
    )
    state_dir: str = key(PATH, "/var/lib/fwdmta")
    shutdown_grace: float = key(duration(), "15s")
    postmaster: Mailbox | None = key(MAILBOX, "")
    listeners: tuple[Listener, ...] = groups(Listener, "listener", DEFAULT_LISTENERS)
    tls: Tls = group(Tls)
    accounts: AccountSources = group(AccountSources)
    submission: Submission = group(Submission)
    limits: Limits = group(Limits)
    queue: Queue = group(Queue)
    notices: Notices = group(Notices)
    retention: Retention = group(Retention)
    delivery: Outgoing = group(Outgoing)
    dns: Dns = group(Dns)
    scan: Scan = group(Scan)
    dkim: tuple[Dkim, ...] = groups(Dkim)
    return_paths: tuple[ReturnPath, ...] = groups(ReturnPath, "return_path")
    tlsrpt: TlsReporting = group(TlsReporting)
    metrics: Metrics = group(Metrics)
    help: Help = group(Help)
    operator: Operator = group(Operator)
    processes: Processes = group(Processes)
    later: tuple[str, ...] = ()


KEYS: Mapping[str, Key] = keys_of(Configuration)


# Reading


def is_there() -> bool:
    """Whether there is a configuration at one of the usual places."""
    return any(Path(place).exists() for place in PLACES)


def locate(path: str | None = None) -> str:
    """Give the absolute path of the configuration file, or raise ConfigError."""
    if path is not None:
        return str(Path(path).absolute())
    for place in PLACES:
        if Path(place).exists():
            return str(Path(place).absolute())
    raise ConfigError(
        Problem(
            "",
            "no configuration",
            f"there is neither {PLACES[0]} here nor {PLACES[1]}",
            "name one with --config FILE, or try --demo, which needs none",
        )
    )


def load(path: str) -> Configuration:
    """Read a configuration file; raises ConfigError with all that is wrong."""
    try:
        text = Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(Problem(path, "", f"is not UTF-8: {error}")) from error
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise ConfigError(Problem(path, "", what)) from error
    return parse(text, path)


def parse(text: str, name: str) -> Configuration:
    """Read a configuration from its text; `name` is the file's, for errors."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(Problem(name, "", f"is not TOML: {error}")) from error
    reader = Reader(name)
    configuration = reader.read(Configuration, table)
    if not reader.problems:
        _judge(configuration, reader)
    if reader.problems:
        raise ConfigError(*reader.problems)
    if not configuration.listeners:
        configuration = replace(configuration, listeners=DEFAULT_LISTENERS)
    return replace(configuration, later=tuple(reader.later))


# What no key can say alone


def _judge(configuration: Configuration, reader: Reader) -> None:
    for judgement in (
        _judge_listeners,
        _judge_accounts,
        _judge_queue,
        _judge_relayhost,
        _judge_reports,
    ):
        judgement(configuration, reader)


def _judge_listeners(configuration: Configuration, reader: Reader) -> None:
    seen: dict[str, int] = {}
    for number, one in enumerate(configuration.listeners, start=1):
        path = f"listener[{number}]"
        # port 0 is whichever is free, so it is never taken
        if one.address in seen and not one.address.endswith(":0"):
            what = f"{one.address} is taken by listener[{seen[one.address]}] already"
            reader.note(f"{path}.address", what, "give each its own")
        seen.setdefault(one.address, number)
        if one.trusted_networks and one.service is not Service.RELAY:
            what = f"a {one.service} listener asks for a login and trusts no network"
            allowed = 'only a listener with service = "relay" has trusted networks'
            reader.note(f"{path}.trusted_networks", what, allowed)


def _judge_accounts(configuration: Configuration, reader: Reader) -> None:
    sql = configuration.accounts.sql
    if sql is None:
        return
    for name, judge, value in (
        ("url", check_url, sql.url),
        ("password_query", check_query, sql.password_query),
    ):
        try:
            judge(value)
        except BadDatabase as bad:
            reader.note(f"accounts.sql.{name}", str(bad))


def _judge_reports(configuration: Configuration, reader: Reader) -> None:
    sender = configuration.tlsrpt.sender
    if sender is None:
        return
    signing = {one.domain.lower() for one in configuration.dkim}
    if sender.key[1] not in signing:
        what = f"nothing signs for {sender.domain}, and reports must be signed"
        reader.note("tlsrpt.sender", what, "write a [[dkim]] for that domain")


_OUTLIVES = "a record outlives the content it is about"


def _judge_queue(configuration: Configuration, reader: Reader) -> None:
    queue = configuration.queue
    if queue.minimal_backoff_time > queue.maximal_backoff_time:
        what = "is longer than queue.maximal_backoff_time"
        reader.note(
            "queue.minimal_backoff_time", what, "it is the first, shortest wait"
        )
    retention = configuration.retention
    if retention.record < retention.content:
        what = "is shorter than retention.content"
        reader.note("retention.record", what, _OUTLIVES)
    for number, one in enumerate(retention.terms, start=1):
        path = f"retention.term[{number}]"
        if (one.account is None) is (one.domain is None):
            reader.note(path, "is for nobody", "write either account, or domain")
        content = retention.content if one.content is None else one.content
        record = retention.record if one.record is None else one.record
        if record < content:
            reader.note(f"{path}.record", "is shorter than its content", _OUTLIVES)


def _judge_relayhost(configuration: Configuration, reader: Reader) -> None:
    delivery = configuration.delivery
    login, password = delivery.relayhost_login, delivery.relayhost_password_file
    if (login is None) is not (password is None):
        names = ("delivery.relayhost_login", SECRET_KEY)
        missing, given = names if login is None else reversed(names)
        reader.note(missing, "is missing", f"{given} is of no use without it")
    if login is not None and delivery.relayhost is None:
        what, allowed = (
            "there is no delivery.relayhost",
            "write it, or remove the login",
        )
        reader.note("delivery.relayhost_login", what, allowed)


def rule_table() -> RuleTable:
    """The rules for what other servers answer; they come with the program."""
    table = files("fwd_mta.rules").joinpath("classification.toml")
    return RuleTable.parse(table.read_text("utf-8"))


# What can only be seen on this host


def check(configuration: Configuration) -> list[str]:
    """Look at the files that the configuration names; gives a line for each trouble."""
    judges = (
        _check_tls,
        _check_accounts,
        _check_sources,
        _check_relayhost,
        _check_dkim,
        _check_state_dir,
    )
    return [line for judge in judges for line in judge(configuration)]


def _check_tls(configuration: Configuration) -> Iterator[str]:
    yield from _check_pairs("tls", configuration.tls, *configuration.tls.also)
    for sni in configuration.tls.sni:
        yield from _check_pairs("tls.sni", sni)


def _check_pairs(where: str, *pairs: Tls | Also | Sni) -> Iterator[str]:
    contents = []
    for pair in pairs:
        for name in ("certificate", "private_key"):
            path = getattr(pair, name)
            try:
                contents.append(Path(path).read_bytes())
            except OSError as error:
                yield f"{where}.{name}: {path} cannot be read: {error.strerror}"
    if len(contents) == 2 * len(pairs):
        first, *also = zip(contents[::2], contents[1::2], strict=True)
        try:
            server_context(*first, *also)
        except (ValueError, TypeError, SSL.Error) as error:
            names = " and ".join(
                f"{one.certificate}, {one.private_key}" for one in pairs
            )
            yield f"{where}: {names} are no pair: {error}"


def _check_accounts(configuration: Configuration) -> Iterator[str]:
    path, sources = configuration.accounts.file, configuration.accounts
    if all(one.service is Service.RELAY for one in configuration.listeners):
        return
    try:
        parse_accounts(Path(path).read_bytes())
    except OSError as error:
        if isinstance(error, FileNotFoundError) and (sources.sql or sources.dovecot):
            return
        yield (
            f"accounts.file: {path} cannot be read: {error.strerror};"
            " make it with: fwdmta account add you@example.com"
        )
    except AccountsFault as fault:
        yield from (f"accounts.file: {path}: {error}" for error in fault.errors)


def _check_sources(configuration: Configuration) -> Iterator[str]:
    sql, dovecot = configuration.accounts.sql, configuration.accounts.dovecot
    if sql is not None:
        try:
            try_once(sql.url, sql.password_query)
        except Exception as error:  # noqa: BLE001 - each driver has its own
            yield f"accounts.sql: {type(error).__name__}: {str(error).strip()}"
    if dovecot is not None and dovecot.startswith("unix:"):
        path = Path(dovecot.removeprefix("unix:"))
        if not path.is_socket():
            yield f"accounts.dovecot: {path} is no socket: see etc/dovecot/"


def _check_relayhost(configuration: Configuration) -> Iterator[str]:
    path = configuration.delivery.relayhost_password_file
    if path is None:
        return
    try:
        password = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        yield f"{SECRET_KEY}: {path} cannot be read: {error}"
    else:
        if not password.isprintable() or not password:
            yield f"{SECRET_KEY}: {path} holds no password; write it on one line"


def _check_dkim(configuration: Configuration) -> Iterator[str]:
    for number, one in enumerate(configuration.dkim, start=1):
        name = f"dkim[{number}].private_key: {one.private_key}"
        try:
            signing_key(one.domain, one.selector, Path(one.private_key).read_bytes())
        except OSError as error:
            yield f"{name} cannot be read: {error.strerror}"
        except ValueError as error:
            yield f"{name}: {error}"


def _check_state_dir(configuration: Configuration) -> Iterator[str]:
    path = Path(configuration.state_dir)
    if len(os.fsencode(path)) > _STATE_DIR_LIMIT:
        yield (
            f"state_dir: {path} is too long for the address of the control socket in"
            f" it; {_STATE_DIR_LIMIT} octets are allowed"
        )
    if path.exists() and not path.is_dir():
        yield f"state_dir: {path} is no directory"
    elif path.exists() and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield f"state_dir: {path} is not writable by this user"
