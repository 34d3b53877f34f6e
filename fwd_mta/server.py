"""All rooms composed into a server, over the seams it is given.

The real seams make the daemon (`service.py`), their twins make the same server in
memory. Doorway: `Server`. What settings mean to each room is in `settings.py`.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime

from fwd_mta import settings
from fwd_mta.admin.asking import CommandError, Json, text_of
from fwd_mta.admin.control import Commands
from fwd_mta.admin.control_socket import ControlFactory
from fwd_mta.admin.link import SOCKET_NAME
from fwd_mta.admin.metrics import Gauges, MetricsPage
from fwd_mta.admin.retention import Retention
from fwd_mta.admin.submitting import Submissions
from fwd_mta.admin.why import Why
from fwd_mta.config import Also, Configuration, Listener, Sni, Tls
from fwd_mta.events import Attempted, Emit, Event, Lifecycle, Refused, Trouble
from fwd_mta.inbound.accounts import AccountsFault, FileAccounts
from fwd_mta.inbound.checks import Checks
from fwd_mta.inbound.clients import Clients, client_of, is_in
from fwd_mta.inbound.dovecot import DovecotAccounts
from fwd_mta.inbound.duplicates import Duplicates, confirmed_by
from fwd_mta.inbound.intake import Intake
from fwd_mta.inbound.limits import LimitsFile, Usage, limits_of
from fwd_mta.inbound.protocol import SubmissionFactory
from fwd_mta.inbound.sasl import portal, scram_challengers
from fwd_mta.inbound.sources import AllAccounts
from fwd_mta.inbound.sql import SqlAccounts
from fwd_mta.inbound.watching import AccountsWatch
from fwd_mta.interfaces import (
    AccountRows,
    Databases,
    Disk,
    Entropy,
    Network,
    Resolver,
    WallClock,
    Worker,
)
from fwd_mta.mail.account import Account
from fwd_mta.mail.entry import QueueEntry
from fwd_mta.mail.errors import LookUpFailed, StoreError
from fwd_mta.mail.session import Service
from fwd_mta.net.https import HttpsPolicyHost, HttpsReportHost
from fwd_mta.net.metrics import Metrics, Reading
from fwd_mta.net.proxy import ProxyFactory
from fwd_mta.net.tls import (
    ClientTlsContext,
    ServerTls,
    choose_by_name,
    server_context,
    tls_factory,
)
from fwd_mta.outbound.agent import Agent
from fwd_mta.outbound.outlook import outlook
from fwd_mta.outbound.policy_file import PolicyFile
from fwd_mta.outbound.tls_reports import TlsReports
from fwd_mta.queue.alarms import Alarms
from fwd_mta.queue.auditor import Auditor
from fwd_mta.queue.files import FileStore
from fwd_mta.queue.index import Index
from fwd_mta.queue.keeper import Keeper
from fwd_mta.queue.rests import RestsFile
from fwd_mta.queue.scheduler import Machine, Scheduler
from fwd_mta.rules.classification import RuleTable
from fwd_mta.settings import CannotServeError

LAST_WORDS = 1.0  # seconds for a 421 to reach who was cut off at the end
_TLS_SERVICES = frozenset({Service.SUBMISSIONS, Service.SUBMISSION})


@dataclass(frozen=True, slots=True)
class Seams:
    """What a server needs of the machine and the world.

    `read_file` gives the accounts, certificates and passwords that settings name;
    `storage` and `hashing` are threads of their own, so that neither waits for the
    other; `owner` goes into the lock file. `journal` is one thread for the journal of
    young mail; without it each message is a file. `databases` and a thread of its own,
    `indexing`, are for the index; without them lists are read from the files.
    `account_rows` opens the database of a url.
    """

    clock: IReactorTime
    wall: WallClock
    entropy: Entropy
    disk: Disk
    network: Network
    resolver: Resolver
    storage: Worker
    hashing: Worker
    emit: Emit
    read_file: Callable[[str], bytes]
    owner: str = ""
    journal: Worker | None = None
    account_rows: Callable[[str], AccountRows] | None = None
    databases: Databases | None = None
    indexing: Worker | None = None


class Server:
    """One mail server. `bind` may need root; `start` serves; `stop` loses nothing."""

    def __init__(
        self,
        configuration: Configuration,
        seams: Seams,
        rules: RuleTable,
        trust: ClientTlsContext,
        load: Callable[[], Configuration] | None = None,
    ) -> None:
        self.configuration = configuration
        self.metrics = Metrics() if configuration.metrics.address else None
        if self.metrics is not None:
            seams = replace(seams, emit=self.metrics.beside(seams.emit))
        seams = replace(seams, emit=self._beside(seams.emit))
        self._seams = seams
        self._load = load or (lambda: self.configuration)
        self._tls = self._server_tls(configuration)
        self.store = self._make_store()
        self.accounts = FileAccounts(self._accounts_file, seams.hashing, seams.entropy)
        self.logins = AllAccounts(self.accounts, seams.clock, seams.emit)
        self.logins.use(self._make_sql(), self._make_dovecot())
        self.checks = self._make_checks()
        self.limits = self._make_limits()
        self.alarms = self._make_alarms()
        self.intake = self._make_intake()
        self.agent = self._make_agent(rules, trust)
        self.scheduler = self._make_scheduler()
        self.scheduler.return_paths = settings.return_paths_of(configuration)
        self.scheduler.language_of = self._language_of
        self.keeper = Keeper(self.store, seams.clock, seams.wall, seams.emit)
        self.auditor = self._make_auditor()
        self._watch = AccountsWatch(self.accounts, seams.clock, seams.emit)
        self._clients = Clients()
        self._policy_file = self._make_policy_file()
        self._rests = self._make_rests()
        self.tls_reports = self._make_tls_reports(trust)
        self._use_reporter(configuration)
        self.factories = [self._make_factory(one) for one in configuration.listeners]
        self.commands = self._make_commands()
        self._control = ControlFactory(self.commands, seams.emit)
        self.ports: list[IListeningPort] = []
        self._control_port: IListeningPort | None = None
        self._metrics_port: IListeningPort | None = None
        self._gauges = self._make_gauges()
        self._state = "starting"

    def _lift(self, everything: bool) -> None:
        self.scheduler.sites.lift(blocks=everything)

    # Making the rooms

    def _make_store(self) -> FileStore:
        seams = self._seams
        return settings.store_of(
            self.configuration,
            seams.disk,
            seams.storage,
            seams.wall,
            seams.clock,
            seams.emit,
            seams.owner,
            seams.journal,
            self._make_index if seams.databases is not None else None,
        )

    def _make_index(self, path: str) -> Index:
        seams = self._seams
        assert seams.databases is not None  # noqa: S101 - else nobody asks
        worker = seams.indexing or seams.storage
        return Index(seams.databases, path, worker, seams.clock, seams.emit)

    def _state_file(self, name: str) -> str:
        return f"{self.configuration.state_dir}/state/{name}"

    def _make_limits(self) -> LimitsFile:
        seams = self._seams
        limits = LimitsFile(
            self._state_file("limits.json"),
            seams.disk,
            seams.storage,
            seams.clock,
            seams.wall,
            seams.emit,
        )
        limits.brake.settings = settings.brake_of(self.configuration)
        return limits

    def _make_alarms(self) -> Alarms:
        seams = self._seams
        alarms = Alarms(
            self.store,
            self.configuration.hostname,
            seams.wall,
            seams.entropy,
            seams.emit,
        )
        alarms.mailbox = self.configuration.operator.mail
        return alarms

    def _beside(self, emit: Emit) -> Emit:
        """Let the brake hear of mail refused as bad, and the operator of alarms."""

        def both(event: Event) -> None:
            emit(event)
            self.alarms.hear(event)
            if type(event) is Attempted and event.account and event.state == "failed":
                now = self._seams.wall.now()
                self.limits.brake.heard(event.account, event.category, now)

        return both

    def _make_policy_file(self) -> PolicyFile:
        seams, path = self._seams, self._state_file("mta-sts.json")
        return PolicyFile(path, seams.disk, seams.storage, seams.emit)

    def _make_rests(self) -> RestsFile:
        seams, path = self._seams, self._state_file("rests.json")
        return RestsFile(
            path, seams.disk, seams.storage, seams.clock, seams.wall, seams.emit
        )

    def _make_tls_reports(self, trust: ClientTlsContext) -> TlsReports:
        seams = self._seams
        host = HttpsReportHost(
            seams.network,
            seams.resolver,
            seams.clock,
            trust,
            allow_private=self.configuration.delivery.allow_private_destinations,
        )
        return TlsReports(
            self._state_file("tlsrpt.json"),
            seams.disk,
            seams.storage,
            seams.clock,
            seams.wall,
            seams.entropy,
            seams.resolver,
            self.store,
            host,
            seams.emit,
            None,
            lambda: self.agent.keys,
        )

    def _use_reporter(self, configuration: Configuration) -> None:
        """Count sessions only where somebody reports them."""
        reporter = settings.reporter_of(configuration)
        self.tls_reports.reporter = reporter
        self.agent.count = self.tls_reports.count if reporter else None

    def _make_commands(self) -> Commands:
        return Commands(
            self.store,
            self._seams.wall,
            self.scheduler.wake,
            self.reload,
            self._lift,
            {
                "why": self._make_why().ask,
                "limits": self._limits_of,
                "enable": self._enable,
                "submit": Submissions(self.intake, self.configuration.hostname).submit,
                **self._make_retention().verbs,
            },
        )

    def _accounts_file(self) -> bytes:
        """The accounts file, which may be missing where there is another source."""
        sources = self.configuration.accounts
        try:
            return self._seams.read_file(sources.file)
        except FileNotFoundError:
            if sources.sql or sources.dovecot:
                return b""
            raise

    def _make_sql(self) -> SqlAccounts | None:
        seams = self._seams
        return settings.sql_of(
            self.configuration, seams.account_rows, seams.hashing, seams.entropy
        )

    def _make_dovecot(self) -> DovecotAccounts | None:
        seams = self._seams
        return settings.dovecot_of(
            self.configuration, seams.network, seams.clock, seams.entropy
        )

    def _server_tls(self, configuration: Configuration) -> ServerTls | None:
        if not any(one.service in _TLS_SERVICES for one in configuration.listeners):
            return None
        return ServerTls(self._context(configuration))

    def _context(self, configuration: Configuration) -> SSL.Context:
        """Read the certificate; raises CannotServeError with the file's name."""
        context = self._pair(configuration.tls, *configuration.tls.also)
        others = {
            name.lower(): other
            for sni in configuration.tls.sni
            for other in [self._pair(sni)]
            for name in sni.names
        }
        choose_by_name(context, others)
        return context

    def _pair(self, tls: Tls | Sni, *also: Also) -> SSL.Context:
        read = self._seams.read_file
        try:
            first, *others = (
                (read(one.certificate), read(one.private_key)) for one in (tls, *also)
            )
            return server_context(*first, *others)
        except OSError as error:
            raise CannotServeError(f"tls: {error}") from error
        except (ValueError, TypeError, SSL.Error) as error:
            names = " and ".join(
                f"{one.certificate}, {one.private_key}" for one in (tls, *also)
            )
            raise CannotServeError(
                f"tls: {names} do not parse or do not fit together: {error}"
            ) from error

    def _make_checks(self) -> Checks:
        scan = self.configuration.scan
        seams = self._seams
        scanners = settings.scanners_of(
            self.configuration, seams.network, seams.hashing
        )
        milters = settings.milters_of(self.configuration, seams.network)
        return Checks(
            scanners, seams.clock, seams.emit, scan.timeout, scan.on_error, milters
        )

    def _make_intake(self) -> Intake:
        seams, configuration = self._seams, self.configuration
        return Intake(
            self.store,
            self.checks,
            settings.policy_of(configuration),
            configuration.hostname,
            seams.wall,
            seams.hashing,
            seams.entropy,
            seams.emit,
            trace_client=configuration.submission.trace_client,
            keys=settings.signing_keys_of(configuration, seams.read_file),
            duplicates=Duplicates(
                configuration.submission.duplicate_window, confirmed_by(self.store)
            ),
            brake=self.limits.brake,
        )

    def _make_agent(self, rules: RuleTable, trust: ClientTlsContext) -> Agent:
        seams = self._seams
        return Agent(
            seams.network,
            seams.resolver,
            seams.clock,
            seams.wall,
            seams.entropy,
            rules,
            trust,
            settings.agent_of(self.configuration),
            settings.signing_keys_of(self.configuration, seams.read_file),
            HttpsPolicyHost(
                seams.network,
                seams.resolver,
                seams.clock,
                trust,
                allow_private=self.configuration.delivery.allow_private_destinations,
            ),
        )

    def _make_scheduler(self) -> Scheduler:
        seams, configuration = self._seams, self.configuration
        return Scheduler(
            self.store,
            self.agent,
            Machine(seams.clock, seams.wall, seams.entropy, seams.emit),
            settings.routing_of(configuration, seams.read_file),
            settings.schedule_of(configuration),
            settings.notices_of(configuration),
            limits=settings.sites_of(configuration),
        )

    async def _language_of(self, entry: QueueEntry) -> str:
        """The language of a notice: the account's, the sender's domain's, the usual."""
        notices, sender = self.configuration.notices, entry.envelope.reverse_path
        try:
            account = await self.logins.find(entry.account) if entry.account else None
        except LookUpFailed:
            account = None
        if account is not None and account.language:
            return account.language
        domain = sender.key[1] if sender else ""
        return dict(notices.domains).get(domain, notices.language)

    def _make_auditor(self) -> Auditor:
        seams = self._seams
        return Auditor(
            self.store,
            seams.clock,
            seams.wall,
            seams.emit,
            lambda: self.scheduler.schedule,
            lambda: self.scheduler.has_room,
        )

    def _make_factory(self, listener: Listener) -> SubmissionFactory:
        return SubmissionFactory(
            settings.listener_of(listener, self.configuration),
            None if listener.service is Service.RELAY else portal(self.logins),
            self.intake,
            self._tls,
            self._seams.clock,
            self._seams.emit,
            self._clients,
            partial(scram_challengers, self.logins, self._seams.entropy),
            self.limits.quotas,
            self.limits.guesses,
            self.limits.brake,
        )

    def _make_retention(self) -> Retention:
        return Retention(
            self.store,
            self._seams.wall,
            lambda: settings.retention_of(self.configuration),
            reindex=self.store.reindex,
        )

    def _make_why(self) -> Why:
        return Why(
            self.store,
            self._seams.wall,
            lambda: self.scheduler.schedule,
            lambda: settings.retention_of(self.configuration),
            self.scheduler.doing,
            lambda mailbox: outlook(
                mailbox,
                self.scheduler.table,
                self._seams.resolver,
                self.agent.settings,
                self.agent.policies,
            ),
            self.scheduler.obstacle,
            self._doors,
        )

    async def _doors(self, login: str) -> Sequence[str]:
        """What keeps us from taking mail in now, from an account or from all."""
        words = []
        if not self.store.has_room(0):
            cure = "make room, or lower queue.minimum_free_space"
            words.append(f"the disk is nearly full, clients hear 452 4.3.1; {cure}")
        if self.checks.on_error == "defer":
            words += [
                f"{name} cannot check mail ({note}), clients hear 451 4.7.1;"
                ' start it, or set scan.on_error = "accept"'
                for name, note in self.checks.failing.items()
            ]
        account = await self.accounts.find(login.lower()) if "@" in login else None
        if account is not None:
            full = self._limits(account)["refusal"]
            words += [f"from {login}, clients hear: {full}"] if full else []
        return words

    def _make_gauges(self) -> Gauges | None:
        """The figures that are read, not counted, if anybody may ask for them."""
        if self.metrics is None:
            return None
        self.metrics.show(
            Reading("active_messages", "In delivery", lambda: self.scheduler.active),
            Reading(
                "audit_flaws",
                "What the auditor found broken in the queue since the start: 0",
                lambda: self.auditor.found,
            ),
            Reading(
                "sites_resting",
                "Sites left alone after failures or block lists",
                lambda: self.scheduler.sites.resting,
            ),
            Reading(
                "accounts_held",
                "Accounts held for bad mail",
                lambda: self.limits.brake.held,
            ),
            *(
                Reading(
                    "sessions",
                    "Clients connected",
                    lambda factory=factory: len(factory.sessions),  # type: ignore[misc]
                    "service",
                    listener.service.value,
                )
                for listener, factory in zip(
                    self.configuration.listeners, self.factories, strict=True
                )
            ),
        )
        seams = self._seams
        return Gauges(self.metrics, self.store, seams.clock, seams.wall, seams.emit)

    async def _enable(self, request: Json) -> Json:
        """Lift the hold of an account."""
        return {"lifted": self.limits.brake.lift(text_of(request, "login"))}

    async def _limits_of(self, request: Json) -> Json:
        """What an account may send, and what it has sent."""
        try:
            account = await self.logins.find(text_of(request, "login"))
        except LookUpFailed as failed:
            raise CommandError(f"cannot look the account up now: {failed}") from failed
        if account is None:
            raise CommandError("there is no such account")
        return self._limits(account)

    def _limits(self, account: Account) -> Json:
        factory = self.factories[0]
        limits = limits_of(account, factory.settings.sending)
        now = self._seams.wall.now()
        used = self.limits.quotas.used(account.login, limits, now)
        hold = self.limits.brake.hold(account.login)
        full = self.limits.quotas.refusal(account.login, limits, Usage(1, 1), now)
        return {
            "login": account.login,
            "window": limits.window,
            "messages": {"used": used.messages, "limit": limits.messages},
            "recipients": {"used": used.recipients, "limit": limits.recipients},
            "connections": self._clients.logged_in[account.login],
            "refusal": full.text if full else None,
            "held": hold.reason if hold else None,
        }

    # Life

    async def bind(self) -> None:
        """Open the listening ports, not yet accepting; raises CannotServeError."""
        for listener, factory in zip(
            self.configuration.listeners, self.factories, strict=True
        ):
            try:
                port = await self._seams.network.listen(
                    listener.address, self._wrapped(listener, factory)
                )
            except Exception as error:
                raise CannotServeError(
                    f"listener {listener.service} {listener.address}: {error}"
                ) from error
            _hold(port)
            self.ports.append(port)
        await self._bind_metrics()

    async def _bind_metrics(self) -> None:
        """Open the page of figures, if it is wanted."""
        address = self.configuration.metrics.address
        if self.metrics is None or address is None:
            return
        page = MetricsPage(self.metrics, lambda: self._state, self._seams.clock)
        try:
            self._metrics_port = await self._seams.network.listen(address, page)
        except Exception as error:
            raise CannotServeError(f"metrics.address {address}: {error}") from error

    def _wrapped(
        self, listener: Listener, factory: SubmissionFactory
    ) -> IProtocolFactory:
        wrapped: IProtocolFactory = factory
        if listener.service is Service.SUBMISSIONS and self._tls is not None:
            wrapped = tls_factory(factory, self._tls, self._seams.clock)
        return ProxyFactory(
            wrapped,
            lambda peer: is_in(client_of(peer)[0], factory.settings.proxy_networks),
            self._seams.clock,
            lambda peer, why: self._seams.emit(
                Refused(client_of(peer)[0], "", "PROXY", why)
            ),
        )

    def port_numbers(self) -> dict[str, int]:
        """The TCP ports that are listened on, by service."""
        return {
            listener.service.value: getattr(port.getHost(), "port", 0)
            for listener, port in zip(
                self.configuration.listeners, self.ports, strict=True
            )
        }

    async def start(self) -> None:
        """Recover the queue and serve; raises CannotServeError."""
        try:
            await self.accounts.load()
        except AccountsFault as fault:
            raise CannotServeError(*_account_lines(self.configuration, fault)) from None
        await self._start_store()
        await self.limits.start(self._seams.entropy.octets)
        await self._policy_file.start(self.agent.policies)
        await self.tls_reports.start()
        await self._rests.start(self.scheduler.sites)
        self.logins.use_secret(self.limits.secret)
        self._control_port = await self._open_control()
        self.scheduler.start()
        self.keeper.start()
        self.auditor.start()
        self._watch.start()
        if self._gauges is not None:
            self._gauges.start()
        for service, number in self.port_numbers().items():
            self._seams.emit(Lifecycle(f"listening for {service} on port {number}"))
        for port in self.ports:
            _let_go(port)
        for line in self.configuration.later:
            self._seams.emit(Trouble("configuration", line))
        self._state = ""
        self.alarms.start()
        self._seams.emit(Lifecycle("started"))

    async def _start_store(self) -> None:
        try:
            await self.store.start(self._seams.wall.now())
        except StoreError as error:
            where = self.configuration.state_dir
            raise CannotServeError(f"state_dir {where}: {error}") from error

    async def _open_control(self) -> IListeningPort:
        """Open the control socket; raises CannotServeError, as for a long path."""
        address = f"unix:{self.configuration.state_dir}/{SOCKET_NAME}"
        try:
            return await self._seams.network.listen(address, self._control)
        except Exception as error:
            await self.store.stop()
            raise CannotServeError(
                f"state_dir: no control socket can be at {address}: {error};"
                " its path holds at most 107 octets"
            ) from error

    async def stop(self) -> None:
        """Drain in the order of SPEC section 1, within `shutdown_grace`."""
        grace = self.configuration.shutdown_grace
        self._state = "stopping"
        self._seams.emit(Lifecycle("stopping"))
        for port in self.ports:
            await _stopped(port)
        quiet = [Deferred.fromCoroutine(self.scheduler.stop(grace))]
        quiet += [factory.drain() for factory in self.factories]
        await self._at_most(grace, DeferredList(quiet, consumeErrors=True))
        for factory in self.factories:
            factory.cut()
        leaving = [factory.drain() for factory in self.factories]
        await self._at_most(LAST_WORDS, DeferredList(leaving))
        for factory in self.factories:
            factory.cut()
        await self.agent.stop()
        await self._watch.stop()
        self.logins.close()
        self.alarms.stop()
        await self.auditor.stop()
        await self.keeper.stop()
        await self.limits.stop()
        await self.tls_reports.stop()
        await self._rests.stop()
        if self._gauges is not None:
            await self._gauges.stop()
        self._control.close()
        if self._control_port is not None:
            await _stopped(self._control_port)
        if self._metrics_port is not None:
            await _stopped(self._metrics_port)
        await self.store.stop()
        self._seams.emit(Lifecycle("stopped"))

    async def _at_most(self, seconds: float, what: Deferred[Any]) -> None:
        """Wait for it, or for the time to pass; it goes on by itself then."""
        done: Deferred[None] = Deferred()
        timer = self._seams.clock.callLater(seconds, done.callback, None)

        def finished(_: object) -> None:
            if timer.active():
                timer.cancel()
                done.callback(None)

        _ = what.addBoth(finished)
        await done

    async def reload(self) -> Sequence[str]:
        """Take new settings, certificates and accounts, all or nothing.

        Gives the lines that say why not; none when the new ones are in force.
        """
        try:
            await self._reload()
        except CannotServeError as refused:
            for line in refused.lines:
                self._seams.emit(Trouble("reload", line, "the old settings stay"))
            return refused.lines
        self._seams.emit(Lifecycle("reloaded"))
        return ()

    async def _reload(self) -> None:
        fresh = settings.loaded(self._load)
        _check_same_ports(self.configuration, fresh)
        context = self._context(fresh) if self._tls is not None else None
        routing = settings.routing_of(fresh, self._seams.read_file)
        keys = settings.signing_keys_of(fresh, self._seams.read_file)
        scanners = settings.scanners_of(fresh, self._seams.network, self._seams.hashing)
        milters = settings.milters_of(fresh, self._seams.network)
        old, self.configuration = self.configuration, fresh
        try:
            accounts = await self.accounts.read()
        except AccountsFault as fault:
            self.configuration = old
            raise CannotServeError(*_account_lines(fresh, fault)) from None
        self.accounts.use(accounts)
        if old.accounts != fresh.accounts:
            self.logins.use(self._make_sql(), self._make_dovecot())
            self.logins.use_secret(self.limits.secret)
        if self._tls is not None and context is not None:
            self._tls.context = context
        self._use(fresh)
        self.scheduler.table = routing
        self.intake.keys = keys
        self.agent.keys = keys
        self.checks.scanners = scanners
        self.checks.milters = milters

    def _use(self, fresh: Configuration) -> None:
        self.intake.policy = settings.policy_of(fresh)
        self.checks.timeout = fresh.scan.timeout
        self.checks.on_error = fresh.scan.on_error
        self.intake.trace_client = fresh.submission.trace_client
        self.store.use_retention(settings.retention_of(fresh))
        self.limits.brake.settings = settings.brake_of(fresh)
        self.alarms.mailbox = fresh.operator.mail
        self.intake.duplicates.window = fresh.submission.duplicate_window
        self.agent.settings = settings.agent_of(fresh)
        self.scheduler.schedule = settings.schedule_of(fresh)
        self.scheduler.sites.schedule = self.scheduler.schedule
        self.scheduler.sites.settings = settings.sites_of(fresh)
        self.scheduler.style = settings.notices_of(fresh)
        self.scheduler.return_paths = settings.return_paths_of(fresh)
        self._use_reporter(fresh)
        for listener, factory in zip(fresh.listeners, self.factories, strict=True):
            factory.settings = settings.listener_of(listener, fresh)


def _account_lines(configuration: Configuration, fault: AccountsFault) -> Iterator[str]:
    return (f"{configuration.accounts.file}: {line}" for line in fault.errors)


def _check_same_ports(old: Configuration, fresh: Configuration) -> None:
    """Refuse what needs another bind, another disk or another name: a restart."""
    before = [(one.service, one.address) for one in old.listeners]
    after = [(one.service, one.address) for one in fresh.listeners]
    for what, changed in (
        ("listener", before != after),
        ("state_dir", old.state_dir != fresh.state_dir),
        ("hostname", old.hostname != fresh.hostname),
        ("metrics.address", old.metrics.address != fresh.metrics.address),
    ):
        if changed:
            raise CannotServeError(f"{what} has changed: that needs a restart")


def _hold(port: IListeningPort) -> None:
    """Let connections wait in the kernel until the queue is ready."""
    stop_reading = getattr(port, "stopReading", None)
    if stop_reading is not None:
        stop_reading()


def _let_go(port: IListeningPort) -> None:
    start_reading = getattr(port, "startReading", None)
    if start_reading is not None:
        start_reading()


async def _stopped(port: IListeningPort) -> None:
    stopping: Awaitable[object] | None = port.stopListening()
    if stopping is not None:
        await stopping
