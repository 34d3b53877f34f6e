"""Delivers over SMTP and LMTP: finds hosts, tries them in order, tells what they said.

A refusal or a failure of a host is a result; only the last host's, or the one that
leaves most hope, becomes the recipient's. Nothing here raises for a peer's sins.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from twisted.internet import error
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from typing_extensions import override

from fwd_mta.interfaces import (
    Delivery,
    DeliveryAgent,
    Entropy,
    Network,
    PolicyHost,
    Resolver,
    WallClock,
)
from fwd_mta.mail.entry import Action, Attempt, DeliveryResult, Diagnosis, Stage
from fwd_mta.mail.envelope import Body, Notify, Recipient
from fwd_mta.mail.errors import FetchError, Interrupted, SyntaxFault
from fwd_mta.mail.header import fields
from fwd_mta.mail.message import Message
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.route import (
    CannotSay,
    Destination,
    Found,
    Host,
    NoSuchName,
    TlsLevel,
    TlsMode,
    Via,
)
from fwd_mta.net.tls import ClientTls, ClientTlsContext
from fwd_mta.outbound.connection import Connection, Timeouts, Trouble
from fwd_mta.outbound.opening import NotOpened, Opening, Terms
from fwd_mta.outbound.policies import Policies
from fwd_mta.outbound.pool import Line, Pool, PoolSettings
from fwd_mta.outbound.transaction import (
    RECIPIENT_LIMIT,
    Heard,
    Letter,
    Transaction,
    lacking,
)
from fwd_mta.rules import exchangers, security
from fwd_mta.rules.classification import RuleTable
from fwd_mta.rules.security import Course, Demand
from fwd_mta.rules.seven_bit import in_seven_bits, is_ours
from fwd_mta.rules.signing import BodyHash, SigningKey, keys_for, signed

_MOST_ADDRESSES = 5
_UNIX = "unix:"
_ANSWERS_TOLD = 5
_LONGEST_LINE = 1000
_LONGEST_TEXT = 4096
_SITES_KEPT = 10_000
_SITE_KEPT_FOR = 60.0
# What a host does that cannot do TLS, however it goes about it. Speaking out of turn
# is not among these: that may be somebody in between.
_NO_TLS = frozenset({"tls-failed", "connection-lost", "timeout"})
_BEFORE_DATA = frozenset({Stage.MAIL, Stage.RCPT})
_BEFORE_DOT = frozenset({*_BEFORE_DATA, Stage.DATA})

_log = Logger()


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How this server goes out (SPEC [delivery]).

    `own_names` and `own_addresses` are what loops back to us; `inet_protocols` is
    "all", "ipv4" or "ipv6".
    """

    hostname: str
    own_names: frozenset[str] = frozenset()
    own_addresses: frozenset[str] = frozenset()
    inet_protocols: str = "all"
    allow_private_destinations: bool = False
    source_addresses: tuple[str, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    pool: PoolSettings = field(default_factory=PoolSettings)


class NoPolicyHost(PolicyHost):
    """For an agent that fetches no policies."""

    @override
    async def fetch(self, domain: str) -> str:
        """Nothing is fetched."""
        raise FetchError(f"no policy of {domain} is fetched")


class Agent(DeliveryAgent):
    """The delivery agent for all destinations."""

    def __init__(
        self,
        network: Network,
        resolver: Resolver,
        clock: IReactorTime,
        wall: WallClock,
        entropy: Entropy,
        table: RuleTable,
        trust: ClientTlsContext,
        settings: AgentSettings,
        keys: Sequence[SigningKey] = (),
        policy_host: PolicyHost | None = None,
    ) -> None:
        self.network = network
        self.resolver = resolver
        self.clock = clock
        self.wall = wall
        self.entropy = entropy
        self.table = table
        self.trust = trust
        self.settings = settings
        self.keys = keys
        self.policies = Policies(resolver, policy_host or NoPolicyHost(), wall)
        self.pool = Pool(clock, settings.pool)
        self._sites: dict[Destination, tuple[float, str]] = {}
        named = {settings.hostname, *settings.own_names}
        self.ourselves = frozenset(name.lower() for name in named)

    @override
    async def deliver(self, delivery: Delivery) -> Attempt:
        """Try once; what was heard before a defect of ours is still told (P4)."""
        trip = _Trip(self, delivery)
        started = self.wall.now()
        try:
            await trip.run()
        except Interrupted as why:
            trip.interrupt(str(why))
        except Exception as defect:  # noqa: BLE001 - it must not cost what is done
            _log.failure("a defect in the delivery of {id}", id=delivery.entry_id)
            trip.fail_rest(Trouble("interrupted", f"internal error: {defect!r}"))
        return Attempt(started, self.wall.now(), trip.results(), tuple(trip.trail))

    @override
    async def site(self, destination: Destination) -> str:
        """The set of exchangers, by name; of a named host or socket, itself."""
        match destination.via:
            case Via.DISCARD | Via.ERROR:
                return ""
            case Via.HOST | Via.LMTP:
                return f"{destination.next_hop}:{destination.port}"
            case Via.MX:
                return await self._exchangers_of(destination)

    async def _exchangers_of(self, destination: Destination) -> str:
        known = self._sites.get(destination)
        now = self.clock.seconds()
        if known is not None and now < known[0]:
            return known[1]
        answer = await self.resolver.exchangers(destination.next_hop)
        name = f"{exchangers.site(destination.next_hop, answer)}:{destination.port}"
        if len(self._sites) >= _SITES_KEPT:
            self._sites.clear()
        self._sites[destination] = now + _SITE_KEPT_FOR, name
        return name

    @override
    async def stop(self) -> None:
        """Close idle connections."""
        await self.pool.stop()

    async def connect(self, host: Host, line: Line) -> Connection:
        """Connect a socket to the host; raises NotOpened."""
        timeouts = self.settings.timeouts
        connection = Connection(self.settings.hostname, timeouts, self.clock)
        factory = Factory.forProtocol(lambda: connection)
        try:
            await self.network.connect(
                host.address, host.port, factory, timeouts.connect, line.source
            )
        except (error.ConnectError, error.InvalidAddressError, OSError) as fault:
            trouble = Trouble(_connect_kind(fault), _words(fault))
            raise NotOpened(Stage.CONNECT, None, trouble) from fault
        return connection

    def source(self, address: str, shunned: frozenset[str] = frozenset()) -> str | None:
        """One of our addresses of the host's family, by chance; None: any.

        One that rests is used only where there is no other.
        """
        family = [
            each
            for each in self.settings.source_addresses
            if (":" in each) == (":" in address) and not address.startswith(_UNIX)
        ]
        if not family:
            return None
        family = [each for each in family if each not in shunned] or family
        return family[int(self.entropy.random() * len(family))]


def _connect_kind(fault: Exception) -> str:
    if isinstance(fault, error.TimeoutError):
        return "timeout"
    if isinstance(fault, error.ConnectionRefusedError):
        return "connection-refused"
    return "no-route"


def _words(fault: Exception) -> str:
    return str(fault).rstrip(".") or type(fault).__name__


class _Trip:
    """One delivery on its way from host to host."""

    def __init__(self, agent: Agent, delivery: Delivery) -> None:
        self._agent = agent
        self._delivery = delivery
        self._destination: Destination = delivery.destination
        if delivery.envelope.require_tls and not _is_local(delivery.destination):
            self._destination = replace(self._destination, tls=TlsLevel.SECURE)
        self._letter = Letter(
            delivery.envelope,
            delivery.message,
            delivery.before_dot,
            delivery.destination.via is Via.LMTP,
        )
        self._done: dict[Recipient, DeliveryResult] = {}
        self._hoped: dict[Recipient, DeliveryResult] = {}
        self._here: list[Recipient] = []
        self._budget = _MOST_ADDRESSES
        self._source: str | None = None
        self._lack_8bit: set[Recipient] = set()
        self._only: set[Recipient] = set()
        self._in_clear_last: list[tuple[Host, Demand]] = []
        self._demand = Demand(self._destination.tls)
        self.trail: list[str] = []

    # The whole

    async def run(self) -> None:
        """Go where the destination says; once more for who needs another form."""
        await self._go()
        if self._lack_8bit and self._open() and await self._recode():
            self._only = self._lack_8bit
            for each in self._only:
                self._hoped.pop(each, None)
            self._budget = _MOST_ADDRESSES
            self._in_clear_last.clear()
            await self._go()

    async def _recode(self) -> bool:
        """Take the message in 7 bits; whether there is such a form.

        A signature of ours is renewed: the old one is for the old body.
        """
        message, keys = self._letter.message, self._agent.keys
        own = {(key.domain, key.selector) for key in keys}
        was_signed = any(is_ours(one, own) for one in fields(message.head))
        found = in_seven_bits(message.head, await message.whole_body(), own)
        if found is None:
            self.note("no host takes 8-bit content, and it must not be changed")
            return False
        head, body = found
        if was_signed:
            digest = BodyHash()
            digest.update(body)
            chosen = keys_for(head, keys)
            head = signed(head, digest.digest(), chosen, self._agent.wall.now())
        self._letter = replace(
            self._letter,
            envelope=replace(self._letter.envelope, body=Body.SEVEN_BIT),
            message=Message(head, body),
        )
        self.note("no host takes 8-bit content: it goes out in 7 bits")
        return True

    async def _go(self) -> None:
        match self._destination.via:
            case Via.DISCARD:
                self._all(Heard(Stage.DOT, Reply(250, "0.0", "discarded")))
                self.note("discarded, as the transport table says")
            case Via.ERROR:
                self._all(Heard(Stage.RCPT, _error_reply(self._destination.next_hop)))
                self.note("refused, as the transport table says")
            case Via.HOST | Via.LMTP:
                await self._visit_named(self._destination.next_hop, _MOST_ADDRESSES)
            case Via.MX:
                await self._visit_exchangers()
        for host, demand in self._in_clear_last:
            self._demand = demand
            await self._visit(host, in_clear=True)

    def note(self, words: str) -> None:
        """Add a line to the trail."""
        self.trail.append(words[:_LONGEST_LINE])

    def results(self) -> tuple[DeliveryResult, ...]:
        """What is known of each recipient, in the order of the envelope."""
        known = {**self._hoped, **self._done}
        recipients = self._delivery.envelope.recipients
        return tuple(known[each] for each in recipients if each in known)

    def interrupt(self, why: str) -> None:
        """Leave whoever has no result untried: another host might have had one."""
        self._hoped.clear()
        self.note(f"interrupted: {why}")

    def fail_rest(self, trouble: Trouble) -> None:
        """Give every recipient that has no result yet this one."""
        for each in self._open():
            self._done[each] = self._result(each, Heard(Stage.CONNECT, None, trouble))

    def _open(self) -> list[Recipient]:
        recipients = dict.fromkeys(self._delivery.envelope.recipients)
        return [
            each
            for each in recipients
            if each not in self._done and (not self._only or each in self._only)
        ]

    def _all(self, heard: Heard) -> None:
        for each in self._open():
            self._done[each] = self._result(each, heard)

    def _hope(
        self,
        recipients: Sequence[Recipient],
        heard: Heard,
        host: Host | None = None,
        tls: str | None = None,
    ) -> None:
        """Note what this host said, and that another one may say better.

        Of several such answers the last that can pass stands: a refusal stands only
        where every host refused.
        """
        for each in recipients:
            result = self._result(each, heard, host, tls)
            before = self._hoped.get(each)
            if before is None or not _is_final(result) or _is_final(before):
                self._hoped[each] = result

    # Names and addresses

    async def _visit_exchangers(self) -> None:
        agent, domain = self._agent, self._destination.next_hop
        answer = await agent.resolver.exchangers(domain)
        found = exchangers.order(domain, answer, agent.ourselves, agent.entropy.random)
        if isinstance(found, exchangers.Unroutable):
            self._no_host(domain, found.kind, found.detail)
            return
        share = exchangers.share(len(found))
        raised = self._may_be_raised()
        policy = await agent.policies.of(domain) if raised else None
        for exchanger in found:
            if not self._open() or self._budget <= 0:
                return
            demand = security.by_policy(self._destination.tls, policy, exchanger.name)
            if isinstance(demand, str):
                self._mistrust(exchanger.name, demand)
                agent.policies.doubt(domain)
                continue
            self._demand = demand
            await self._visit_named(exchanger.name, share, by_dane=raised)
            if self._demand.why == "MTA-STS" and self._open():
                agent.policies.doubt(domain)

    def _may_be_raised(self) -> bool:
        """Whether DNS and the domain's own policy can ask for more than we do."""
        if self._destination.trusted:
            return False
        try:
            head = fields(self._letter.message.head)
        except SyntaxFault:
            head = ()
        return security.may_be_raised(
            self._destination.tls, head, required=self._letter.requires_tls
        )

    def _mistrust(self, name: str, why: str) -> None:
        """Pass a host by: what it would have to prove it cannot, or cannot now."""
        self.note(f"{name}: {why}")
        trouble = Trouble("tls-failed", f"{name}: {why}")
        self._hope(self._open(), Heard(Stage.STARTTLS, None, trouble))

    async def _ask_records(self, name: str, addresses: Found[str] | NoSuchName) -> bool:
        """Let TLSA records decide what a host must prove; whether it may be used.

        Asked at the end of the chain of aliases first, then at the name itself.
        """
        if not isinstance(addresses, Found) or not addresses.secure:
            return True
        for base in dict.fromkeys([addresses.name or name, name]):
            answer = await self._agent.resolver.tlsa(base, self._destination.port)
            names = tuple(dict.fromkeys([base, name, self._destination.next_hop]))
            found = security.by_records(self._demand.level, answer, names)
            if isinstance(found, str):
                self._mistrust(name, found)
                return False
            if found is not None:
                self._demand = found
                break
        return True

    async def _visit_named(
        self, name: str, share: int, *, by_dane: bool = False
    ) -> None:
        """Visit the addresses of a host name, or the address that it is."""
        hosts = await self._hosts(name, by_dane=by_dane)
        for host in hosts[: min(share, self._budget)]:
            if not self._open():
                return
            self._budget -= 1
            await self._visit(host)

    async def _hosts(self, name: str, *, by_dane: bool) -> list[Host]:
        port = self._destination.port
        if name.startswith(_UNIX):
            return [Host(name, name, port)]
        if exchangers.is_address(name):
            found: tuple[str, ...] = (name,)
        else:
            answer = await self._agent.resolver.addresses(name)
            if isinstance(answer, CannotSay):
                self._no_host(name, "dns-failure", f"{name}: {answer.reason}")
                return []
            found = answer.records if isinstance(answer, Found) else ()
            if by_dane and not await self._ask_records(name, answer):
                return []
        usable = self._usable(found)
        if not usable:
            self._no_host(name, "no-usable-exchanger", _why_none(name, found))
        return [Host(name, address, port) for address in exchangers.interleave(usable)]

    def _usable(self, addresses: Sequence[str]) -> list[str]:
        settings = self._agent.settings
        unwanted = {"ipv4": True, "ipv6": False}.get(settings.inet_protocols)
        free = self._destination.trusted or settings.allow_private_destinations
        return [
            each
            for each in addresses
            if (":" in each) is not unwanted
            and (free or exchangers.is_public(each, settings.own_addresses))
        ]

    def _no_host(self, name: str, kind: str, detail: str) -> None:
        """Note a name without a host; one that an operator wrote bounces nothing."""
        self.note(f"{name}: {detail}")
        trouble = Trouble("dns-failure" if self._destination.trusted else kind, detail)
        self._hope(self._open(), Heard(Stage.DNS, None, trouble))

    # One host

    async def _visit(self, host: Host, *, in_clear: bool = False) -> None:
        """Stay with a host while it has news for somebody; a second time in clear."""
        self._here = self._open()
        while self._here:
            line = self._line(host, in_clear=in_clear)
            self._source = line.source
            lease = await self._agent.pool.take(line)
            connection, keep = lease.connection, False
            reused = connection is not None
            try:
                if connection is None:
                    connection = await self._agent.connect(host, line)
                    await self._open_session(connection, host, line)
                await self._transactions(connection, host, reused=reused)
                keep = True
            except NotOpened as why:
                in_clear = self._not_opened(host, why, in_clear=in_clear)
            finally:
                self._agent.pool.give_back(lease, connection, keep=keep)

    def _line(self, host: Host, *, in_clear: bool) -> Line:
        destination = self._destination
        return Line(
            host,
            self._agent.source(host.address, self._delivery.shunned),
            self._demand.level,
            destination.tls_mode,
            in_clear,
            self._letter.lmtp,
            destination.login,
            self._demand,
        )

    async def _open_session(
        self, connection: Connection, host: Host, line: Line
    ) -> None:
        terms = Terms(
            line.tls,
            line.tls_mode,
            line.in_clear,
            line.lmtp,
            line.login,
            self._destination.password,
        )
        trust, demand = self._agent.trust, line.demand
        if demand.records:
            now = self._agent.wall.now()
            creator: ClientTls = trust.proved_by(demand.records, demand.names, now)
        else:
            creator = trust.towards(host.name)
        await Opening(connection, terms, creator).run()

    def _not_opened(self, host: Host, why: NotOpened, *, in_clear: bool) -> bool:
        """Note a host that cannot be used; whether to come again, in clear."""
        said = why.reply or (why.trouble and why.trouble.detail) or ""
        self.note(f"{host}: {why.stage.value}: {said}")
        if self._letter.requires_tls and why.trouble is not None:
            why = _without_promise(why, why.trouble)
        failed = why.stage is Stage.STARTTLS and (
            why.trouble is not None and why.trouble.kind in _NO_TLS
        )
        if failed and not in_clear and self._may_come_in_clear():
            return True
        if why.stage is Stage.STARTTLS and why.reply is not None:
            permanent = why.reply.is_permanent
            course = security.refused(self._demand.level, permanent=permanent)
            if course is Course.IN_CLEAR:
                self._in_clear_last.append((host, self._demand))
        self._hope(self._here, Heard(why.stage, why.reply, why.trouble), host)
        self._here = []
        return in_clear

    def _may_come_in_clear(self) -> bool:
        starttls = self._destination.tls_mode is TlsMode.STARTTLS
        return starttls and security.failed(self._demand.level) is Course.IN_CLEAR

    async def _transactions(
        self, connection: Connection, host: Host, *, reused: bool
    ) -> None:
        while self._here:
            batch = self._batch(connection, host)
            if not batch:
                return
            transaction = Transaction(connection, self._letter)
            await transaction.run(batch)
            if transaction.stale and reused:
                return  # it had grown old in the pool; come again with a new one
            reused = False
            self._take_in(transaction, connection, host)
            if not connection.usable:
                return

    def _batch(self, connection: Connection, host: Host) -> list[Recipient]:
        """The next recipients; those the host cannot serve wait for another host."""
        offered = connection.offered
        able: list[Recipient] = []
        for each in self._here:
            lack = lacking(self._letter, each, offered)
            if lack is None:
                able.append(each)
            else:
                heard = Heard(Stage.MAIL, None, lack)
                if lack.kind == "8bit":
                    self._lack_8bit.add(each)
                tls = _tls(connection, self._demand.why)
                self._hope([each], heard, host, tls)
        if len(able) < len(self._here):
            self.note(f"{host}: lacks what {len(self._here) - len(able)} need")
        self._here = able
        return able[: min(RECIPIENT_LIMIT, offered.rcpt_max or RECIPIENT_LIMIT)]

    def _take_in(
        self, transaction: Transaction, connection: Connection, host: Host
    ) -> None:
        tls = _tls(connection, self._demand.why)
        dsn = connection.offered.offers("DSN")
        for each, heard in transaction.heard.items():
            if _may_differ_elsewhere(heard):
                self._hope([each], heard, host, tls)
            else:
                self._done[each] = self._result(each, heard, host, tls, dsn=dsn)
        self._here = [each for each in self._here if each not in transaction.heard]
        self._tell(f"{host} ({tls or 'in clear'})", transaction)

    def _tell(self, where: str, transaction: Transaction) -> None:
        """Add what was said to the trail, the most frequent answers only."""
        counted = Counter(_said(heard) for heard in transaction.heard.values())
        for said, count in counted.most_common(_ANSWERS_TOLD):
            people = "1 recipient" if count == 1 else f"{count} recipients"
            self.note(f"{where}: {said} ({people})")
        if len(counted) > _ANSWERS_TOLD:
            more = len(counted) - _ANSWERS_TOLD
            self.note(f"{where}: {more} other answers, see the recipients")

    # What it comes to

    def _result(
        self,
        recipient: Recipient,
        heard: Heard,
        host: Host | None = None,
        tls: str | None = None,
        *,
        dsn: bool = True,
    ) -> DeliveryResult:
        diagnosis = self._diagnosis(heard)
        asked = recipient.notify is not None and recipient.wants(Notify.SUCCESS)
        return DeliveryResult(
            recipient,
            heard.stage,
            _shortened(heard.reply),
            diagnosis,
            str(host) if host else None,
            tls,
            heard.in_doubt,
            relayed=diagnosis is None and asked and not dsn and not self._letter.lmtp,
            source=self._source if host else None,
            at_home=diagnosis is None and self._letter.lmtp and not dsn,
        )

    def _diagnosis(self, heard: Heard) -> Diagnosis | None:
        table, trouble = self._agent.table, heard.trouble
        if heard.reply is not None:
            if heard.reply.is_positive:
                return None
            return table.diagnose(heard.reply, heard.stage)
        if trouble is None:
            return None
        return table.trouble(trouble.kind, trouble.detail, heard.stage)


def _is_local(destination: Destination) -> bool:
    return destination.via in {Via.LMTP, Via.DISCARD, Via.ERROR}


def _without_promise(why: NotOpened, trouble: Trouble) -> NotOpened:
    """A host without STARTTLS cannot promise TLS all the way (RFC 8689 4.2.1)."""
    if trouble.kind != "tls-required":
        return why
    return NotOpened(why.stage, None, Trouble("requiretls", trouble.detail))


def _shortened(reply: Reply | None) -> Reply | None:
    """A reply as it is kept: a peer may send 64 KiB, and each is written down."""
    if reply is None or len(reply.text) <= _LONGEST_TEXT:
        return reply
    return replace(reply, text=reply.text[:_LONGEST_TEXT] + "...")


def _is_final(result: DeliveryResult) -> bool:
    return result.diagnosis is not None and result.diagnosis.action is Action.REJECT


def _may_differ_elsewhere(heard: Heard) -> bool:
    """Whether another host is worth a try: this one hung up, or said it would."""
    if heard.stage not in _BEFORE_DOT:
        return False
    if heard.reply is not None:
        return heard.reply.code == 421
    kind = heard.trouble.kind if heard.trouble else ""
    if kind == "protocol":
        return heard.stage in _BEFORE_DATA
    return kind in {"connection-lost", "timeout"}


def _said(heard: Heard) -> str:
    if heard.reply is not None:
        return f"{heard.stage.value}: {heard.reply}"
    detail = heard.trouble.detail if heard.trouble else ""
    doubt = ", the outcome is in doubt" if heard.in_doubt else ""
    return f"{heard.stage.value}: {detail}{doubt}"


def _tls(connection: Connection, why: str) -> str | None:
    if connection.tls is None:
        return None
    proved = "verified" if connection.tls.verified else "not verified"
    return f"{connection.tls}, {proved}{f' ({why})' if why else ''}"


def _why_none(name: str, found: Sequence[str]) -> str:
    if not found:
        return f"{name} has no address"
    return f"no address of {name} may be used ({', '.join(found[:5])})"


def _error_reply(words: str) -> Reply:
    """The reply that a transport entry "error:5.1.1 text" stands for."""
    status, _, text = words.partition(" ")
    digit, _, detail = status.partition(".")
    return Reply(550 if digit == "5" else 450, detail, text)
