"""What the settings mean to each room: configuration in, the rooms' own nouns out."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace

from twisted.internet.interfaces import IReactorTime

from fwd_mta.config import ConfigError, Configuration, Listener
from fwd_mta.events import Emit
from fwd_mta.inbound.brake import BrakeSettings
from fwd_mta.inbound.builtin import BuiltIn
from fwd_mta.inbound.clamd import Clamd
from fwd_mta.inbound.dialogue import Place
from fwd_mta.inbound.dovecot import DovecotAccounts
from fwd_mta.inbound.limits import SendLimits
from fwd_mta.inbound.milter import Milter
from fwd_mta.inbound.passwords import Passwords
from fwd_mta.inbound.protocol import SubmissionSettings
from fwd_mta.inbound.rspamd import Rspamd
from fwd_mta.inbound.spamd import Spamd
from fwd_mta.inbound.sql import SqlAccounts
from fwd_mta.interfaces import (
    AccountRows,
    Disk,
    Entropy,
    Network,
    Scanner,
    WallClock,
    Worker,
)
from fwd_mta.mail.route import Destination, TlsLevel, TlsMode
from fwd_mta.outbound.agent import AgentSettings
from fwd_mta.outbound.connection import Timeouts
from fwd_mta.outbound.pool import PoolSettings
from fwd_mta.queue.files import FileStore
from fwd_mta.queue.index import Index
from fwd_mta.queue.scheduler import NoticeStyle
from fwd_mta.queue.sites import SiteSettings
from fwd_mta.rules.inspection import RULES
from fwd_mta.rules.retention import RetentionPolicy, Term
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.return_path import ReturnPaths
from fwd_mta.rules.routing import RoutingTable, parse_key, parse_transport
from fwd_mta.rules.signing import SigningKey, signing_key
from fwd_mta.rules.submission import SubmissionPolicy
from fwd_mta.rules.tlsrpt import Reporter

_SUBMISSIONS_PORT = 465
_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to be left out, not bound


def loaded(load: Callable[[], Configuration]) -> Configuration:
    """Read the configuration again; raises CannotServeError with all its problems."""
    try:
        return load()
    except ConfigError as error:
        raise CannotServeError(*(str(one) for one in error.problems)) from error


class CannotServeError(Exception):
    """The server cannot begin, or not go on with new settings; `lines` say why."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def store_of(
    configuration: Configuration,
    disk: Disk,
    worker: Worker,
    wall: WallClock,
    clock: IReactorTime,
    emit: Emit,
    owner: str = "",
    journal: Worker | None = None,
    make_index: Callable[[str], Index] | None = None,
) -> FileStore:
    """The queue of a state_dir."""
    return FileStore(
        disk,
        configuration.state_dir,
        worker,
        wall,
        clock,
        retention_of(configuration),
        minimum_free_space=configuration.queue.minimum_free_space,
        message_size_limit=configuration.submission.message_size_limit,
        emit=emit,
        owner=owner,
        journal_worker=journal,
        make_index=make_index if configuration.queue.index else None,
    )


def retention_of(configuration: Configuration) -> RetentionPolicy:
    """How long finished mail is kept."""
    retention = configuration.retention
    terms = {
        (one.account or one.domain or "").lower(): Term(
            retention.content if one.content is None else one.content,
            retention.record if one.record is None else one.record,
        )
        for one in retention.terms
    }
    return RetentionPolicy(retention.content, retention.record, terms)


def policy_of(configuration: Configuration) -> SubmissionPolicy:
    """What a submitted message may be."""
    submission = configuration.submission
    return SubmissionPolicy(
        message_size_limit=submission.message_size_limit,
        recipient_limit=submission.recipient_limit,
        hopcount_limit=submission.hopcount_limit,
        bare_newline=submission.bare_newline,
        long_lines=submission.long_lines,
        help_url=configuration.help.url,
    )


def brake_of(configuration: Configuration) -> BrakeSettings:
    """After how much bad mail an account is held."""
    limits = configuration.limits
    return BrakeSettings(limits.suspend_after, limits.suspend_window)


def return_paths_of(configuration: Configuration) -> ReturnPaths:
    """The return path of each domain that has one."""
    return {one.domain: one.address for one in configuration.return_paths}


def listener_of(listener: Listener, configuration: Configuration) -> SubmissionSettings:
    """What one listener offers, and to whom."""
    limits = configuration.limits
    return SubmissionSettings(
        service=listener.service,
        hostname=configuration.hostname,
        policy=policy_of(configuration),
        trusted_networks=listener.trusted_networks,
        exempt_networks=limits.exempt,
        proxy_networks=listener.proxy_protocol_from,
        connections_per_client=limits.connections_per_client,
        connections_per_account=limits.connections_per_account,
        auth_failures_per_client=limits.auth_failures_per_client,
        auth_failure_window=limits.auth_failure_window,
        sending=SendLimits(
            limits.messages_per_account,
            limits.recipients_per_account,
            limits.messages_window,
        ),
        postmaster=configuration.postmaster,
        contact=configuration.help.contact or "",
    )


def schedule_of(configuration: Configuration) -> RetrySchedule:
    """When deferred mail is tried again."""
    queue = configuration.queue
    return RetrySchedule(
        minimal_backoff_time=queue.minimal_backoff_time,
        maximal_backoff_time=queue.maximal_backoff_time,
        maximal_queue_lifetime=queue.maximal_queue_lifetime,
        bounce_queue_lifetime=queue.bounce_queue_lifetime,
        delay_warning_time=queue.delay_warning_time,
    )


def notices_of(configuration: Configuration) -> NoticeStyle:
    """What our notices say of us."""
    return NoticeStyle(
        configuration.hostname,
        configuration.queue.bounce_size_limit,
        configuration.help.url or "",
        configuration.help.contact or "",
    )


def reporter_of(configuration: Configuration) -> Reporter | None:
    """Who reports on TLS; None: nobody."""
    reports = configuration.tlsrpt
    if reports.sender is None:
        return None
    sender = str(reports.sender)
    contact = reports.contact or configuration.help.contact or sender
    return Reporter(sender, reports.organization or configuration.hostname, contact)


def sites_of(configuration: Configuration) -> SiteSettings:
    """How much goes to one site at a time."""
    delivery = configuration.delivery
    return SiteSettings(
        delivery.destination_concurrency_limit, sources=delivery.source_addresses
    )


def agent_of(configuration: Configuration) -> AgentSettings:
    """How we go out."""
    delivery = configuration.delivery
    timeouts = {
        one.name: getattr(delivery.timeouts, one.name) for one in fields(Timeouts)
    }
    return AgentSettings(
        hostname=configuration.hostname,
        own_addresses=frozenset(_own_addresses(configuration)),
        inet_protocols=delivery.inet_protocols,
        allow_private_destinations=delivery.allow_private_destinations,
        source_addresses=delivery.source_addresses,
        timeouts=Timeouts(**timeouts),
        pool=PoolSettings(per_host=delivery.destination_concurrency_limit),
    )


def signing_keys_of(
    configuration: Configuration, read_file: Callable[[str], bytes]
) -> tuple[SigningKey, ...]:
    """The keys that sign for our domains; raises CannotServeError."""
    keys = []
    for one in configuration.dkim:
        try:
            pem = read_file(one.private_key)
            keys.append(signing_key(one.domain, one.selector, pem, one.lifetime))
        except (OSError, ValueError) as error:
            raise CannotServeError(
                f"dkim of {one.domain}: {one.private_key}: {error}"
            ) from error
    return tuple(keys)


def sql_of(
    configuration: Configuration,
    database: Callable[[str], AccountRows] | None,
    worker: Worker,
    entropy: Entropy,
) -> SqlAccounts | None:
    """The accounts in a database, where one is configured."""
    sql = configuration.accounts.sql
    if sql is None or database is None:
        return None
    return SqlAccounts(
        database(sql.url),
        sql.password_query,
        Passwords(worker, entropy),
        has_scram=sql.scram,
    )


def dovecot_of(
    configuration: Configuration,
    network: Network,
    clock: IReactorTime,
    entropy: Entropy,
) -> DovecotAccounts | None:
    """Dovecot's accounts, where it is configured; raises CannotServeError."""
    place = configuration.accounts.dovecot
    if place is None:
        return None
    try:
        return DovecotAccounts(network, Place.parse(place), clock, entropy)
    except ValueError as error:
        raise CannotServeError(f"accounts.dovecot: {error}") from error


def milters_of(configuration: Configuration, network: Network) -> tuple[Milter, ...]:
    """The milters, in their order; raises CannotServeError."""
    try:
        return tuple(
            Milter(network, place, configuration.hostname)
            for place in configuration.scan.milters
        )
    except ValueError as error:
        raise CannotServeError(f"scan.milters: {error}") from error


def actions_of(configuration: Configuration) -> Mapping[str, str]:
    """What each check of ours does: test strings only where no scanner knows them."""
    scan = configuration.scan
    actions = {rule: getattr(scan.rules, rule.replace("-", "_")) for rule in RULES}
    if scan.clamd:
        actions["eicar"] = "off"
    if scan.rspamd or scan.spamd:
        actions["gtube"] = "off"
    return actions


def scanners_of(
    configuration: Configuration, network: Network, worker: Worker
) -> tuple[Scanner, ...]:
    """Who looks at a message before it is queued; raises CannotServeError."""
    scan = configuration.scan
    found: list[Scanner] = [BuiltIn(worker, actions_of(configuration))]
    try:
        if scan.clamd:
            found.append(Clamd(network, Place.parse(scan.clamd)))
        if scan.rspamd:
            found.append(Rspamd(network, scan.rspamd, configuration.hostname))
        if scan.spamd:
            place = Place.parse(scan.spamd)
            found.append(Spamd(network, place, scan.spamd_reject_score))
    except ValueError as error:
        raise CannotServeError(f"scan: {error}") from error
    return tuple(found)


def _own_addresses(configuration: Configuration) -> Iterator[str]:
    yield from configuration.delivery.source_addresses
    for listener in configuration.listeners:
        host = listener.address.rpartition(":")[0].strip("[]")
        if host not in _ANY_ADDRESS and not host.startswith(("unix", "systemd")):
            yield host


def routing_of(
    configuration: Configuration, read_file: Callable[[str], bytes]
) -> RoutingTable:
    """Where mail goes that DNS does not decide; raises CannotServeError."""
    delivery = configuration.delivery
    port, tls = delivery.smtp_port, delivery.tls_security_level
    transports = {
        parse_key(name): parse_transport(value, port=port, tls=tls)
        for name, value in delivery.transport
    }
    policies = {
        parse_key(one.domain): one.tls_security_level for one in delivery.tls_policy
    }
    relayhost = _relayhost(configuration, read_file)
    return RoutingTable(relayhost, transports, port, tls, policies)


def _relayhost(
    configuration: Configuration, read_file: Callable[[str], bytes]
) -> Destination | None:
    delivery = configuration.delivery
    if delivery.relayhost is None:
        return None
    implicit = delivery.relayhost_tls is TlsMode.IMPLICIT
    host = parse_transport(
        delivery.relayhost,
        port=_SUBMISSIONS_PORT if implicit else delivery.smtp_port,
        tls=delivery.tls_security_level,
    )
    host = replace(host, tls_mode=delivery.relayhost_tls, trusted=True)
    if delivery.relayhost_login is None:
        return host
    path = delivery.relayhost_password_file or ""
    try:
        password = read_file(path).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotServeError(f"delivery.relayhost_password_file: {error}") from error
    # A password goes to nobody who has not proved to be the one it is for.
    return replace(
        host, login=delivery.relayhost_login, password=password, tls=TlsLevel.SECURE
    )
