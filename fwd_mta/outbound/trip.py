"""One delivery on its way from host to host: which are tried, and in what order."""

from collections.abc import Sequence
from dataclasses import replace

from fwd_mta.interfaces import Delivery
from fwd_mta.mail.entry import Stage
from fwd_mta.mail.envelope import Body
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import Section, fields
from fwd_mta.mail.message import Message
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.route import (
    CannotSay,
    Destination,
    Found,
    Host,
    NoSuchName,
    TlsLevel,
    Via,
)
from fwd_mta.outbound.connection import Connection, Trouble
from fwd_mta.outbound.findings import Findings
from fwd_mta.outbound.means import UNIX, Means
from fwd_mta.outbound.pool import Line
from fwd_mta.outbound.transaction import Heard, Letter, Transaction
from fwd_mta.outbound.visit import Visit
from fwd_mta.outbound.witness import Witness
from fwd_mta.rules import exchangers, security, tlsrpt
from fwd_mta.rules.security import Demand
from fwd_mta.rules.seven_bit import in_seven_bits, is_ours
from fwd_mta.rules.signing import BodyHash, keys_for, signed
from fwd_mta.rules.sts import Policy
from fwd_mta.rules.tlsrpt import Applied, Failure

_MOST_ADDRESSES = 5
_PIECE = 64 * 1024


class Trip:
    """One delivery; what it comes to is in `findings`.

    `way`: any other would go over such a connection first, and it went well.
    """

    def __init__(self, means: Means, delivery: Delivery) -> None:
        self.entry_id = delivery.entry_id
        self._means = means
        self._shunned = delivery.shunned
        self._destination: Destination = delivery.destination
        if delivery.envelope.require_tls and not _is_local(delivery.destination):
            self._destination = replace(self._destination, tls=TlsLevel.SECURE)
        self._letter = Letter(
            delivery.envelope,
            delivery.message,
            delivery.before_dot,
            delivery.destination.via is Via.LMTP,
        )
        self.findings = Findings(
            delivery.envelope.recipients, means.table, lmtp=self._letter.lmtp
        )
        self._budget = _MOST_ADDRESSES
        self._in_clear_last: list[tuple[Host, Demand]] = []
        self._demand = Demand(self._destination.tls)
        self._policy: Policy | None = None
        self._is_watched = False
        self._is_certain = delivery.destination is self._destination
        self.way: Line | None = None

    @property
    def destination(self) -> Destination:
        """Where it goes."""
        return self._destination

    def after(
        self, transaction: Transaction, connection: Connection, line: Line
    ) -> None:
        """Take in what came of it on the straight way; the rest is still to be done."""
        findings, offered = self.findings, connection.offered
        findings.source = line.source
        tls = connection.tls_in_words(line.demand.why)
        name, dsn = str(line.host), offered.offers("DSN")
        findings.take_in(transaction, name, tls, dsn=dsn)

    async def run(self) -> None:
        """Go where the destination says; once more for who needs another form."""
        findings = self.findings
        if not findings.open():
            return
        if self._means.keys and self._letter.envelope.hold_until is not None:
            await self._sign()
        await self._go()
        if findings.lack_8bit and findings.open() and await self._recode():
            findings.only(findings.lack_8bit)
            self._budget = _MOST_ADDRESSES
            self._in_clear_last.clear()
            await self._go()

    async def _sign(self) -> None:
        """Sign what was held until now (RFC 4865): intake left it unsigned.

        A signature made at intake may have outlived its key, or its own x= tag.
        """
        message, keys = self._letter.message, self._means.keys
        own = {(key.domain, key.selector) for key in keys}
        chosen = keys_for(message.head, keys)
        if not chosen or any(is_ours(one, own) for one in fields(message.head)):
            return
        digest = BodyHash()
        for at in range(0, message.body_size, _PIECE):
            digest.update(await message.read(at, _PIECE))
        now = self._means.wall.now()
        head = signed(message.head, digest.digest(), chosen, now)
        self._letter = replace(self._letter, message=Message(head, message.body))

    async def _recode(self) -> bool:
        """Take the message in 7 bits; whether there is such a form.

        A signature of ours is renewed: the old one is for the old body.
        """
        message, keys = self._letter.message, self._means.keys
        own = {(key.domain, key.selector) for key in keys}
        was_signed = any(is_ours(one, own) for one in fields(message.head))
        found = in_seven_bits(message.head, await message.whole_body(), own)
        if found is None:
            self.findings.note(
                "no host takes 8-bit content, and it must not be changed"
            )
            return False
        head, body = found
        if was_signed:
            digest = BodyHash()
            digest.update(body)
            chosen = keys_for(head, keys)
            head = signed(head, digest.digest(), chosen, self._means.wall.now())
        self._letter = replace(
            self._letter,
            envelope=replace(self._letter.envelope, body=Body.SEVEN_BIT),
            message=Message(head, body),
        )
        self.findings.note("no host takes 8-bit content: it goes out in 7 bits")
        return True

    async def _go(self) -> None:
        match self._destination.via:
            case Via.DISCARD:
                self.findings.all(Heard(Stage.DOT, Reply(250, "0.0", "discarded")))
                self.findings.note("discarded, as the transport table says")
            case Via.ERROR:
                reply = _error_reply(self._destination.next_hop)
                self.findings.all(Heard(Stage.RCPT, reply))
                self.findings.note("refused, as the transport table says")
            case Via.HOST | Via.LMTP:
                await self._visit_named(self._destination.next_hop, _MOST_ADDRESSES)
            case Via.MX:
                await self._visit_exchangers()
        for host, demand in self._in_clear_last:
            await self._visit(host, demand, in_clear=True)

    # Names

    async def _visit_exchangers(self) -> None:
        means, domain = self._means, self._destination.next_hop
        answer = await means.resolver.exchangers(domain)
        found = exchangers.order(domain, answer, means.ourselves, means.entropy.random)
        if isinstance(found, exchangers.Unroutable):
            self._no_host(domain, found.kind, found.detail)
            return
        share = exchangers.share(len(found))
        if len(found) > 1 and found[0].preference == found[1].preference:
            self._is_certain = False  # the next trip may begin elsewhere
        raised = self._may_be_raised()
        if not raised and not self._destination.trusted:
            self._is_certain = False  # the next message may be one that asks for more
        policy = await means.policies.of(domain) if raised else None
        self._policy = policy
        self._is_watched = raised and means.count is not None
        for exchanger in found:
            if not self.findings.open() or self._budget <= 0:
                return
            demand = security.by_policy(self._destination.tls, policy, exchanger.name)
            if isinstance(demand, str):
                self._mistrust(exchanger.name, demand)
                means.policies.doubt(domain)
                if policy is not None:
                    self._count(tlsrpt.by_sts(domain, policy), exchanger.name, demand)
                continue
            self._demand = demand
            await self._visit_named(exchanger.name, share, by_dane=raised)
            if self._demand.why == "MTA-STS" and self.findings.open():
                means.policies.doubt(domain)

    def _may_be_raised(self) -> bool:
        """Whether DNS and the domain's own policy can ask for more than we do."""
        if self._destination.trusted:
            return False
        try:
            head = fields(self._letter.message.head)
        except SyntaxFault:
            head = Section()
        return security.may_be_raised(
            self._destination.tls, head, required=self._letter.requires_tls
        )

    def _mistrust(self, name: str, why: str) -> None:
        """Pass a host by: what it would have to prove it cannot, or cannot now."""
        self.findings.note(f"{name}: {why}")
        trouble = Trouble("tls-failed", f"{name}: {why}")
        heard = Heard(Stage.STARTTLS, None, trouble)
        self.findings.hope(self.findings.open(), heard)

    async def _ask_records(self, name: str, addresses: Found[str] | NoSuchName) -> bool:
        """Let TLSA records decide what a host must prove; whether it may be used.

        Asked at the end of the chain of aliases first, then at the name itself.
        """
        if not isinstance(addresses, Found) or not addresses.secure:
            return True
        for base in dict.fromkeys([addresses.name or name, name]):
            answer = await self._means.resolver.tlsa(base, self._destination.port)
            names = tuple(dict.fromkeys([base, name, self._destination.next_hop]))
            found = security.by_records(self._demand.level, answer, names)
            if isinstance(found, str):
                self._mistrust(name, found)
                self._count(tlsrpt.by_dane(base, ()), name, found)
                return False
            if found is not None:
                self._demand = found
                break
        return True

    # Addresses

    async def _visit_named(
        self, name: str, share: int, *, by_dane: bool = False
    ) -> None:
        """Visit the addresses of a host name, or the address that it is."""
        hosts = await self._hosts(name, by_dane=by_dane)
        self._is_certain = self._is_certain and self._demand == Demand(
            self._destination.tls
        )
        for host in hosts[: min(share, self._budget)]:
            if not self.findings.open():
                return
            self._budget -= 1
            await self._visit(host, self._demand)

    async def _visit(
        self, host: Host, demand: Demand, *, in_clear: bool = False
    ) -> None:
        self._demand = demand
        visit = Visit(
            self._means,
            self.findings,
            self._destination,
            self._letter,
            self._shunned,
            host,
            demand,
            self._witness(host),
        )
        await visit.run(in_clear=in_clear)
        line = visit.went_well
        if self._is_certain and line is not None and not line.in_clear:
            self.way = line
        self._is_certain = False  # the next host is none to begin with
        if visit.in_clear_at_last:
            self._in_clear_last.append((host, demand))

    async def _hosts(self, name: str, *, by_dane: bool) -> list[Host]:
        port = self._destination.port
        if name.startswith(UNIX):
            return [Host(name, name, port)]
        if exchangers.is_address(name):
            found: tuple[str, ...] = (name,)
        else:
            answer = await self._means.resolver.addresses(name)
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
        settings = self._means.settings
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
        self.findings.note(f"{name}: {detail}")
        trouble = Trouble("dns-failure" if self._destination.trusted else kind, detail)
        heard = Heard(Stage.DNS, None, trouble)
        self.findings.hope(self.findings.open(), heard)

    # For reports

    def _witness(self, host: Host) -> Witness | None:
        count, domain = self._means.count, self._destination.next_hop
        if count is None or not self._is_watched:
            return None
        trouble = self._means.policies.trouble(domain)
        return Witness.of(count, domain, host.name, self._demand, self._policy, trouble)

    def _count(self, applied: Applied, name: str, why: str) -> None:
        """Count a host that was passed by for what its domain or its records say."""
        count = self._means.count
        if count is None or not self._is_watched:
            return
        dane = applied.kind is tlsrpt.Kind.TLSA
        result = tlsrpt.DNSSEC_INVALID if dane else tlsrpt.INVALID
        failure = Failure(result, name, reason=why)
        count(self._destination.next_hop, applied, failure)


def _is_local(destination: Destination) -> bool:
    return destination.via in {Via.LMTP, Via.DISCARD, Via.ERROR}


def _why_none(name: str, found: Sequence[str]) -> str:
    if not found:
        return f"{name} has no address"
    return f"no address of {name} may be used ({', '.join(found[:5])})"


def _error_reply(words: str) -> Reply:
    """The reply that a transport entry "error:5.1.1 text" stands for."""
    status, _, text = words.partition(" ")
    digit, _, detail = status.partition(".")
    return Reply(550 if digit == "5" else 450, detail, text)
