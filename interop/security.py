"""Scenarios of transport security: every policy meets every behaviour, and none yields.

The names come from a signed zone at knot through unbound, which validates; policies
from an HTTPS host; the exchangers are faces of one Postfix, and one host that promises
REQUIRETLS. The table is printed: what the policy is, what the peer does, what we did.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from interop.kit import Workbench, expect, wait_for
from interop.messages import SENDER, plain
from interop.peers import PEERS, POLICY_HOST, PROMISES, Peers, PolicyHost, address
from interop.server import Server
from interop.zones import PLAIN, SIGNED, Zones

_ZEROS = "00" * 32
_SHORT = 20  # seconds that one policy is good for: till the table is done, no longer
_LIFTED = b"TLS-Required: No\r\n"


@dataclass(frozen=True, slots=True)
class Policy:
    """What somebody demands: by records, a policy, as operator or as sender.

    `outcome` is what becomes of it at each kind of peer, see `_OUTCOMES`.
    """

    name: str
    outcome: str
    tlsa: str = ""
    zone: str = SIGNED
    sts: str = ""
    level: str = ""
    require: bool = False
    lifted: bool = False


# For each rule, what becomes of a message at a peer that is: right, of another name,
# expired, of an unknown issuer, without STARTTLS, stripped of it, refusing it, broken
# in its handshake, and one that is right and promises REQUIRETLS.
_OUTCOMES = {
    "may": "proved tls tls tls clear clear clear clear proved",
    "none": "clear clear clear clear clear clear clear clear clear",
    "encrypt": "proved tls tls tls waits waits waits waits proved",
    "proof": "proved waits waits waits waits waits waits waits proved",
    "key": "proved proved proved proved waits waits waits waits proved",
    "never": "waits waits waits waits waits waits waits waits waits",
    "promise": "fails waits waits waits fails fails waits waits proved",
}

_KEY, _ISSUER = "3 1 1 {key}", "2 1 1 {issuer}"
_WRONG, _UNUSABLE = f"3 1 1 {_ZEROS}", f"1 1 1 {_ZEROS}"

POLICIES = (
    Policy("may", "may"),
    Policy("level-none", "none", level="none"),
    Policy("level-encrypt", "encrypt", level="encrypt"),
    Policy("level-secure", "proof", level="secure"),
    Policy("dane-key", "key", _KEY),
    Policy("dane-issuer", "proof", _ISSUER),
    Policy("dane-mismatch", "never", _WRONG),
    Policy("dane-unusable", "encrypt", _UNUSABLE),
    Policy("dane-bogus", "never", "bogus"),
    Policy("dane-unsigned", "may", _WRONG, PLAIN),
    Policy("sts-enforce", "proof", sts="enforce"),
    Policy("sts-not-listed", "never", sts="not-listed"),
    Policy("sts-testing", "may", sts="testing"),
    Policy("sts-none", "may", sts="none"),
    Policy("sts-short", "proof", sts="short"),
    Policy("sts-no-file", "may", sts="no-file"),
    Policy("sts-untrusted", "may", sts="untrusted"),
    Policy("dane-mismatch-sts", "never", _WRONG, sts="enforce"),
    Policy("dane-key-sts", "key", _KEY, sts="enforce"),
    Policy("requiretls", "promise", require=True),
    Policy("requiretls-dane-bad", "never", _WRONG, require=True),
    Policy("not-required-dane", "may", _WRONG, lifted=True),
    Policy("not-required-sts", "may", sts="enforce", lifted=True),
    Policy("not-required-secure", "proof", level="secure", lifted=True),
    Policy("not-required-but-is", "promise", require=True, lifted=True),
)
_NAMES = (*(peer.name for peer in PEERS), PROMISES)


@dataclass(frozen=True, slots=True)
class Cell:
    """One policy at one peer: a domain of its own."""

    policy: Policy
    peer: str

    @property
    def domain(self) -> str:
        """Where its mail goes."""
        return f"{self.policy.name}.{self.peer}.{self.policy.zone}"

    @property
    def exchanger(self) -> str:
        """The host that takes it."""
        return f"mx-{self.domain}"

    @property
    def wanted(self) -> str:
        """What must become of a message."""
        return _OUTCOMES[self.policy.outcome].split()[_NAMES.index(self.peer)]

    @property
    def message(self) -> bytes:
        """What is sent there."""
        content = plain(f"a@{self.domain}", self.domain)
        return _LIFTED + content if self.policy.lifted else content


CELLS = [Cell(policy, peer) for policy in POLICIES for peer in _NAMES]


class _Stage:
    """Everything around our server, and our server."""

    def __init__(self, bench: Workbench) -> None:
        self.peers = Peers(bench)
        self._sent = 0
        self.began = 0.0
        records = {SIGNED: "", PLAIN: ""}
        for cell in CELLS:
            records[cell.policy.zone] += "".join(self._records(cell))
        broken = [_tlsa_parent(one) for one in CELLS if one.policy.tlsa == "bogus"]
        zones = bench.keep(Zones(bench.folder / "zones", records, broken))
        asked = [one for one in CELLS if one.policy.sts]
        trusted = [one.domain for one in asked if one.policy.sts != "untrusted"]
        self.policy_host = bench.keep(
            PolicyHost(
                bench.authority,
                bench.folder / "policy-host",
                POLICY_HOST,
                dict(_policies(asked)),
                trusted,
            )
        )
        self.server = bench.keep(
            Server(
                bench,
                self._tables(zones.port),
                trusting=bench.authority.certificate,
            )
        )

    def _records(self, cell: Cell) -> Iterator[str]:
        exchanger, zone = f"{cell.exchanger}.", cell.policy.zone
        yield f"{cell.domain}. MX 10 {exchanger}\n{exchanger} A {address(cell.peer)}\n"
        tlsa = cell.policy.tlsa
        if tlsa and tlsa != "bogus":
            key, issuer = self.peers.key_digest(cell.peer), self.peers.authority_key
            said = tlsa.format(key=key, issuer=issuer)
            yield f"_{self.peers.port}._tcp.{exchanger} TLSA {said}\n"
        if cell.policy.sts:
            yield f'_mta-sts.{cell.domain}. TXT "v=STSv1; id=1"\n'
            yield f"mta-sts.{cell.domain}. A {POLICY_HOST}\n"
        expect(zone in cell.domain, "a domain outside its zone")

    def _tables(self, dns: int) -> dict[str, str]:
        delivery = f"smtp_port = {self.peers.port}\nallow_private_destinations = true"
        levels = "\n[[delivery.tls_policy]]\n".join(
            f'domain = "{cell.domain}"\ntls_security_level = "{cell.policy.level}"'
            for cell in CELLS
            if cell.policy.level
        )
        return {
            "delivery": delivery,
            "delivery.transport": (
                f'"sender.example" = "[127.0.0.1]:{self.peers.sink.port}"'
            ),
            "[delivery.tls_policy]": levels,
            "dns": f'nameservers = ["127.0.0.1:{dns}"]\ntrust_ad = true',
        }

    def send(self, *cells: Cell) -> None:
        """Submit a message for each."""
        with self.server.login() as session:
            for cell in cells:
                options = ["REQUIRETLS"] if cell.policy.require else []
                self._sent += 1
                new = b"Message-ID: <%d." % self._sent  # or it would be a duplicate
                content = cell.message.replace(b"Message-ID: <", new)
                to = f"a@{cell.domain}"
                session.sendmail(SENDER, [to], content, mail_options=options)

    def ended(self) -> dict[str, list[dict[str, Any]]]:
        """What has been tried so far, by domain, in order of arrival."""
        found: dict[str, list[dict[str, Any]]] = {}
        entries = self.server.fwdmta_json("queue", "list", "--all")
        for entry in sorted(entries, key=lambda one: float(one["queued_at"])):
            last = entry["last"]
            if last is not None and last["recipient"].startswith("a@"):
                domain = last["recipient"].removeprefix("a@")
                found.setdefault(domain, []).append(entry)
        return found

    def wait_for(self, cell: Cell, count: int) -> None:
        """Wait until so many messages of a cell have been tried."""
        what = f"{count} messages to {cell.domain} were tried"
        wait_for(what, lambda: len(self.ended()[cell.domain]) >= count)


def _tlsa_parent(cell: Cell) -> str:
    """The name over a host's TLSA records, below the zone."""
    return f"_tcp.{cell.exchanger}".removesuffix(f".{SIGNED}")


def _policies(cells: list[Cell]) -> Iterator[tuple[str, str]]:
    for cell in cells:
        kind = cell.policy.sts
        mode = kind if kind in {"testing", "none"} else "enforce"
        name = cell.exchanger if kind != "not-listed" else "mx.elsewhere.example"
        age = _SHORT if kind == "short" else 86_400
        if kind != "no-file":
            text = f"version: STSv1\nmode: {mode}\nmx: {name}\nmax_age: {age}\n"
            yield cell.domain, text


def _outcome(entry: dict[str, Any]) -> str:
    """What became of a message, in a word."""
    last = entry["last"]
    if not last["delivered"]:
        return "waits" if last["action"] == "defer" else "fails"
    tls = last["tls"] or ""
    if not tls:
        return "clear"
    return "tls" if "not verified" in tls else "proved"


def transport_security(bench: Workbench) -> None:
    """Every TLS policy against every behaviour of real peers: no downgrade anywhere."""
    stage = _Stage(bench)
    stage.send(*CELLS)
    wait_for("all was tried", lambda: len(stage.ended()) == len(CELLS), 120, 1)
    stage.began = time.monotonic()
    ended = stage.ended()
    for line in _table(ended):
        print(f"     {line}")
    for cell in CELLS:
        _check(stage, cell, ended[cell.domain][0])
    _check_arrived(stage)
    _reuse(stage)
    _policies_over_time(stage)


def _table(ended: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    yield f"{'policy':20}" + "".join(f"{name:>12}" for name in _NAMES)
    for policy in POLICIES:
        words = [_outcome(ended[Cell(policy, peer).domain][0]) for peer in _NAMES]
        yield f"{policy.name:20}" + "".join(f"{word:>12}" for word in words)


def _check(stage: _Stage, cell: Cell, entry: dict[str, Any]) -> None:
    got, last = _outcome(entry), entry["last"]
    where = f"{cell.policy.name} at {cell.peer}"
    expect(got == cell.wanted, f"{where}: {got}, not {cell.wanted}: {last}")
    if got == "waits":
        expect(last["status"].startswith("4.7."), f"{where} waits with {last}")
    if got == "fails":
        expect(last["status"] == "5.7.30", f"{where} failed with {last}")


def _check_arrived(stage: _Stage) -> None:
    """What the peers have is what the table says, in clear only where it says so."""
    wanted = [one for one in CELLS if one.wanted in {"proved", "tls", "clear"}]
    by_postfix = {one.domain: one for one in wanted if one.peer != PROMISES}
    sink, notices = stage.peers.sink, sum(one.wanted == "fails" for one in CELLS)
    sink.wait_for(len(by_postfix) + notices)
    arrived = [one for one in sink.caught if not one.mail.startswith("FROM:<>")]
    names = sorted(one.field("Subject") for one in arrived)
    expect(names == sorted(by_postfix), f"the peers have {names}")
    for one in arrived:
        cell = by_postfix[one.field("Subject")]
        head = one.content.partition(b"\r\n\r\n")[0].decode()
        encrypted = f"by {cell.peer}.peer.example" in head and "(using TLSv1." in head
        expect(encrypted is (cell.wanted != "clear"), f"{cell.domain}: {head[:900]}")
    promised = [one.field("Subject") for one in stage.peers.promises.caught]
    others = [one.domain for one in wanted if one.peer == PROMISES]
    expect(sorted(promised) == sorted(others), f"the promising host has {promised}")


def _cell(policy: str, peer: str) -> Cell:
    return next(one for one in CELLS if (one.policy.name, one.peer) == (policy, peer))


def _reuse(stage: _Stage) -> None:
    """A connection serves the next message only where it proved what that one asks."""
    strict = _cell("not-required-sts", "self-signed")
    plain_one = Cell(Policy("not-required-sts", "proof", sts="enforce"), "self-signed")
    before = stage.peers.connections("self-signed")
    for cell in (strict, plain_one, strict, plain_one):
        count = len(stage.ended()[cell.domain])
        stage.send(cell)
        stage.wait_for(cell, count + 1)
    words = [_outcome(one) for one in stage.ended()[strict.domain]]
    expect(words == ["tls", "tls", "waits", "tls", "waits"], f"in turn: {words}")
    made = stage.peers.connections("self-signed") - before
    right = _cell("sts-enforce", "right")
    before = stage.peers.connections("right")
    for count in (2, 3, 4):
        stage.send(right)
        stage.wait_for(right, count)
    kept = stage.peers.connections("right") - before
    print(f"     lax, strict, lax, strict to a self-signed host: {' '.join(words[1:])}")
    print(f"     over {made} connections; three strict to a right one: {kept}")
    expect(made >= 2, "a strict message went over a connection that proved nothing")
    expect(kept <= 1, f"{kept} connections for three messages")


def _policies_over_time(stage: _Stage) -> None:
    """A kept policy outlives its host; one that is over does not."""
    stage.policy_host.close()
    time.sleep(max(0.0, stage.began + _SHORT - time.monotonic()))
    for policy, what, wanted in (
        ("sts-enforce", "its policy is kept", "waits"),
        ("sts-short", "its policy is over", "tls"),
        ("sts-no-file", "no policy was ever seen", "tls"),
    ):
        cell = _cell(policy, "self-signed")
        before = len(stage.ended()[cell.domain])
        stage.send(cell)
        stage.wait_for(cell, before + 1)
        word = _outcome(stage.ended()[cell.domain][-1])
        print(f"     the policy host is down, {what}: {word}")
        expect(word == wanted, f"{what}, and yet: {word}")
