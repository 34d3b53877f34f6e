"""Must-show: `why`, right in words and in the next time, in each of many situations.

Each situation is a world with a message in it; the screen must have its words, and
where it names a next try, the next attempt comes at that time and not before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.admin import show
from fwd_mta.interfaces import Space
from fwd_mta.mail.entry import EntryFilter, Stage
from fwd_mta.mail.reply import Reply
from fwd_mta.rules.sts import Mode, Policy
from fwd_mta.rules.why import Circumstances, explain
from fwd_mta.world.hosts import HOSTS, Behaviour
from tests.kit import World

DAY = 86_400.0
Json = dict[str, Any]
Act = Callable[[World], None]
TO = "bob@example.net"


def nothing(world: World) -> None:
    """Leave the world as it is."""


def dns_fails(world: World) -> None:
    """Have the resolver answer SERVFAIL."""
    world.resolver._failing = ("example.net",)


def null_mx(world: World) -> None:
    """The domain says that it takes no mail (RFC 7505)."""
    world.resolver._exchangers = {"example.net": [(0, "")]}


def leads_to(address: str) -> Act:
    """The exchanger has that address."""

    def act(world: World) -> None:
        world.resolver._addresses = {"mx.example.net": [address]}

    return act


def host(behaviour: str | Behaviour) -> Act:
    """The exchanger behaves so."""

    def act(world: World) -> None:
        world.host.behaviour = (
            HOSTS[behaviour] if isinstance(behaviour, str) else behaviour
        )

    return act


def enforced(world: World) -> None:
    """The domain's MTA-STS policy names another exchanger."""
    policy = Policy(Mode.ENFORCE, max_age=86_400, names=("other.example.net",))
    known = {"example.net": ("1", world.wall.now() + DAY, policy)}
    world.server.agent.policies.remember(known)


def bogus_tlsa(world: World) -> None:
    """Addresses are secure, and the TLSA records cannot be had."""
    world.resolver._secure = True
    name = "_25._tcp.mx.example.net"
    world.resolver._failing = (name,)


def changed(verb: str, **words: str) -> Act:
    """An operator changes the message."""

    def act(world: World) -> None:
        request = {"verb": "change", "change": verb, "ids": [message(world)], **words}
        (item,) = world.done(world.server.commands.obey(request))["items"]
        assert item["done"], item

    return act


def then(*acts: Act) -> Act:
    """One after the other."""

    def act(world: World) -> None:
        for one in acts:
            one(world)

    return act


def passing(seconds: float) -> Act:
    """Time passes."""

    def act(world: World) -> None:
        end = world.clock.seconds() + seconds
        while (left := end - world.clock.seconds()) > 0:
            world.skip(left)

    return act


def another(world: World) -> None:
    """A second message comes to the same site, and becomes due."""
    world.submit("carl@example.net")
    world.pass_time(5)


def disk_full(world: World) -> None:
    """Nearly nothing is left of the disk."""
    world.disk.space = lambda path: Space(10, 10)  # type: ignore[method-assign]
    world.pass_time(120)


def message(world: World, number: int = 0) -> str:
    """The id of the n-th message."""
    found = world.done(world.server.store.entries(EntryFilter(finished=True)))
    return [one for one in found if one.cause is None][number].id


@dataclass(frozen=True)
class Situation:
    """How it comes about, and the words that a person must read.

    `name`: what is asked about instead of the message; `tries`: it names a next try.
    """

    words: tuple[str, ...]
    before: Act = nothing
    to: str = TO
    after: Act = nothing
    extra: str = ""
    seconds: float = 5.0
    name: str = ""
    tries: bool = True
    submits: bool = True
    which: int = 0


GREYLIST = "bob+greylist@example.net"
SECURE = '[delivery]\ntls_security_level = "secure"\n'
ENCRYPT = '[delivery]\ntls_security_level = "encrypt"\n'
RELAY = '[delivery]\nrelayhost = "[203.0.113.5]"\n'
SHORT = '[queue]\nmaximal_queue_lifetime = "1h"\n'
BUSY = Behaviour({Stage.MAIL: Reply(421, "7.0", "Too many connections, slow down")})
NO_LOGIN = Behaviour({Stage.MAIL: Reply(530, "7.0", "Authentication required")})
HELD = ("held", "It is on hold: by an operator's wish", "fwdmta queue release")

SITUATIONS: Mapping[str, Situation] = {
    "greylisted": Situation(
        ("deferred", "come a second time", "greylisted", "a later try from this"),
        to=GREYLIST,
    ),
    "greylisted twice": Situation(
        ("queue.minimal_backoff_time, doubled by each try", "after try 2"),
        host("defers"),
        after=passing(400),
    ),
    "the maximal wait": Situation(
        ("queue.maximal_backoff_time: 400 s",),
        host("defers"),
        after=passing(900),
        extra='[queue]\nmaximal_backoff_time = "400s"\n',
    ),
    "the last try": Situation(
        ("queue.maximal_queue_lifetime: this is the last try", "given up"),
        host("defers"),
        after=passing(3500),
        extra=SHORT,
    ),
    "a resting site, our address refused": Situation(
        ("a fixed wait of 1 h at least, while they refuse our address", "removal"),
        host("blocks"),
    ),
    "due, but its site rests": Situation(
        ("deferred", "closed the connection early", "the time of its next try"),
        host("slams"),
        after=another,
        seconds=30,
        which=1,
    ),
    "the account's own hold": Situation(
        ("held", "on hold: the account sends spam", "an operator; nothing is tried"),
        after=changed("hold", reason="the account sends spam"),
        before=dns_fails,
        tries=False,
    ),
    "held": Situation(
        HELD,
        before=dns_fails,
        after=changed("hold", reason="by an operator's wish"),
        tries=False,
    ),
    "routed another way": Situation(
        ("an operator chose the next hop [203.0.113.99]:2525", "not accept"),
        before=dns_fails,
        after=then(changed("route", to="[203.0.113.99]:2525"), passing(5)),
    ),
    "DNS failing": Situation(
        ("The DNS could not say", "dig MX DOMAIN", "queue.minimal_backoff_time"),
        dns_fails,
    ),
    "null MX": Situation(
        ("failed", "it takes no mail", "The sender was told"), null_mx, tries=False
    ),
    "no such domain": Situation(
        ("failed", "There is no domain of that name"),
        to="bob@nowhere.example",
        tries=False,
    ),
    "private address": Situation(
        ("failed", "has an address that can be used", "10.0.0.1"),
        leads_to("10.0.0.1"),
        tries=False,
    ),
    "connection refused": Situation(
        ("does not accept connections", "nc -v HOST 25"), leads_to("203.0.113.77")
    ),
    "no answer": Situation(
        ("did not answer in time", "no reply within 300 seconds"),
        host("mute"),
        seconds=400,
    ),
    "an attempt runs": Situation(
        ("not tried yet", "the end of an attempt that runs now"),
        host("mute"),
        tries=False,
    ),
    "MTA-STS mismatch": Situation(
        ("deferred", "MTA-STS policy"), after=nothing, before=enforced
    ),
    "DANE cannot be had": Situation(("deferred", "TLSA"), bogus_tlsa),
    "TLS is demanded, certificate wrong": Situation(
        ("could not be made or trusted", "delivery.tls_security_level"), extra=SECURE
    ),
    "TLS is demanded, none now": Situation(
        ("of the required kind", "454 4.7.0 No TLS now"),
        host("bad-starttls"),
        extra=ENCRYPT,
        seconds=20,
    ),
    "too fast": Situation(("fewer messages or connections", "we are"), host(BUSY)),
    "mailbox full": Situation(
        ("mailbox", "the recipient must make room"), to="bob+full@example.net"
    ),
    "mailbox full, the second day": Situation(
        ("a fixed wait of 4 h for a full mailbox",),
        to="bob+full@example.net",
        after=passing(1.3 * DAY),
        extra='[queue]\nmaximal_backoff_time = "4h"\nminimal_backoff_time = "4h"\n',
    ),
    "in doubt": Situation(
        ("in doubt", "may then arrive twice", "a fixed wait of 10 min"),
        host("lost-after-dot"),
        seconds=60,
    ),
    "the relayhost wants a login": Situation(
        ("failed", "530 5.7.0 Authentication required", "wants a login from this"),
        host(NO_LOGIN),
        extra=RELAY,
        tries=False,
    ),
    "unknown recipient": Situation(
        ("failed", "The sender was told", "recipient-unknown"),
        to="bob+unknown@example.net",
        tries=False,
    ),
    "refused as spam": Situation(
        ("failed", "550", "looks like spam"), to="bob+spam@example.net", tries=False
    ),
    "expired": Situation(
        ("expired", "Its time was over", "queue.maximal_queue_lifetime"),
        host("defers"),
        after=passing(3700),
        extra=SHORT,
        tries=False,
    ),
    "cancelled": Situation(
        ("cancelled", "nobody was told"),
        dns_fails,
        after=changed("cancel"),
        tries=False,
    ),
    "delivered": Situation(
        ("delivered", "for good", "retention.content: then its content goes"),
        tries=False,
    ),
    "redacted": Situation(
        ("delivered", "retention.record: then its record goes"),
        after=passing(31 * DAY),
        tries=False,
    ),
    "kept as evidence": Situation(
        ("who keeps it as evidence: a case", "fwdmta retention release"),
        after=changed("keep", reason="a case"),
        tries=False,
    ),
    # Not in the queue: what would happen
    "an address, all well": Situation(
        ("0 messages wait", "mx.example.net: 203.0.113.5", "decided by    DNS"),
        name="new@example.net",
        submits=False,
        tries=False,
    ),
    "an address, null MX": Situation(
        ("takes no mail: it would fail",),
        null_mx,
        name="new@example.net",
        submits=False,
        tries=False,
    ),
    "a domain, DNS failing": Situation(
        ("it would wait and be tried again",),
        dns_fails,
        name="example.net",
        submits=False,
        tries=False,
    ),
    "a domain, MTA-STS mismatch": Situation(
        ("MTA-STS of example.net says enforce", "is not in the domain's MTA-STS"),
        enforced,
        name="example.net",
        submits=False,
        tries=False,
    ),
    "an address whose site rests": Situation(
        ("refuses our address, until about",), host("blocks"), name="new@example.net"
    ),
    "a refused destination": Situation(
        ('decided by    delivery.transport, "example.net"', "is refused with"),
        extra='[delivery.transport]\n"example.net" = "error:5.1.1 no more"\n',
        name="new@example.net",
        submits=False,
        tries=False,
    ),
    "the disk is full": Situation(
        ("at our own door: the disk is nearly full", "452 4.3.1"),
        after=disk_full,
        name="new@example.net",
        submits=False,
        tries=False,
    ),
    "the scanner is down": Situation(
        ("at our own door: clamd cannot check mail", "451 4.7.1", "scan.on_error"),
        extra='[scan]\nclamd = "tcp:127.0.0.1:3310"\n',
        name="new@example.net",
        tries=False,
    ),
}


class SituationTests(SynchronousTestCase):
    """One world for each situation."""

    def world_of(self, one: Situation) -> World:
        """A world in which it came about."""
        world = World(extra=one.extra)
        world.start()
        one.before(world)
        if one.submits:
            world.submit(one.to)
        world.pass_time(one.seconds)
        one.after(world)
        return world

    def told(self, world: World, name: str) -> Json:
        """The answer, as a program reads it."""
        request = {"verb": "why", "name": name}
        return world.done(world.server.commands.obey(request))

    def check(self, title: str, one: Situation) -> None:
        """The words, then the time."""
        world = self.world_of(one)
        name = one.name or message(world, one.which)
        told, now = self.told(world, name), world.wall.now()
        self.assertNotIn("error", told, title)
        tell = show.why_message if "entry" in told else show.why_waiting
        text = "\n".join(tell(told, now))
        for words in one.words:
            self.assertIn(words.lower(), text.lower(), f"{title}:\n{text}")
        if one.tries and not one.name:
            self.check_time(title, world, name, told)

    def check_time(self, title: str, world: World, name: str, told: Json) -> None:
        """The next attempt begins when it was said, and not before."""
        at = min(one["next_at"] for one in told["reasons"])
        before = self.attempts(world, name)
        world.until(lambda: self.attempts(world, name) > before, DAY, step=60.0)
        steps = world.done(world.server.store.timeline(name))
        attempt = next(one.attempt for one in reversed(steps) if one.attempt)
        self.assertGreaterEqual(attempt.started, at - 1.0, title)
        # What waits for a site comes back spread, so that not all come at once.
        rests = any("rests" in one["waits_for"] for one in told["reasons"])
        allowed = 0.3 * (at - told["entry"]["queued_at"]) if rests else 10.0
        self.assertLessEqual(attempt.started, at + allowed, title)

    def attempts(self, world: World, name: str) -> int:
        """How many there were."""
        steps = world.done(world.server.store.timeline(name))
        return sum(step.attempt is not None for step in steps)

    def test_there_are_enough(self) -> None:
        """At least the twenty-five that were promised."""
        self.assertGreaterEqual(len(SITUATIONS), 25)

    def test_each_situation(self) -> None:
        """Each situation is told rightly."""
        wrong = []
        for title, one in SITUATIONS.items():
            try:
                self.check(title, one)
            except AssertionError as error:
                wrong.append(f"{title}: {error}")
        self.assertEqual(wrong, [], "\n\n".join(wrong))

    def test_the_places_of_a_site_are_taken(self) -> None:
        """With the window of a site full, `why` says how many places are taken."""
        world = World(extra="[delivery]\ndestination_concurrency_limit = 1\n")
        world.start()
        world.host.behaviour = HOSTS["mute"]
        world.submit(TO)
        world.submit("carl@example.net")
        world.pass_time(5)
        rows = world.done(world.server.commands.obey({"verb": "list"}))["items"]
        told = [self.told(world, row["id"])["reasons"][0] for row in rows]
        waits = [one["waits_for"] for one in told]
        self.assertIn("the end of an attempt that runs now", waits)
        site = self.told(world, "example.net")["site"]
        self.assertIn("all 1 places there are taken", site)

    def test_a_later_release(self) -> None:
        """A message that the client wants later (RFC 4865) waits for that time."""
        world = World()
        world.start()
        dns_fails(world)
        world.submit(TO)
        world.pass_time(5)
        (entry,) = world.done(world.server.store.entries(EntryFilter()))
        later = world.wall.now() + 7200
        envelope = replace(entry.envelope, hold_until=later)
        fresh = replace(
            entry,
            envelope=envelope,
            standings=tuple(
                replace(one, attempts=0, last=None, next_attempt_at=later)
                for one in entry.standings
            ),
        )
        server = world.server
        around = Circumstances(
            world.wall.now(), server.scheduler.schedule, server.store._tree.retention
        )
        (told,) = explain(fresh, around)
        self.assertIn("FUTURERELEASE", told.reason)
        self.assertEqual(told.next_at, later)
