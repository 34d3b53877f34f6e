"""What must be so in every life, whatever goes wrong: after every step, and at the end.

Promises and guarantees of docs/guarantees.md as checks; each has a name, which a
violated one tells.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from fwd_mta.events import Accepted, Attempted, Event, Trouble
from fwd_mta.mail.entry import (
    EntryFilter,
    NoticeKind,
    QueueEntry,
    Standing,
    StandingState,
    Step,
)
from fwd_mta.mail.errors import StoreError
from fwd_mta.queue.agenda import LOOKAHEAD
from fwd_mta.rules.dsn import wants
from fwd_mta.rules.identity import is_entry_id
from fwd_mta.rules.retention import RetentionPolicy, RetentionStep, next_step
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.soundness import flaws
from fwd_mta.server import Server
from fwd_mta.settings import schedule_of
from fwd_mta.simulation.clients import SECRET, SENDER, Promise
from fwd_mta.simulation.outside import mark_of
from fwd_mta.simulation.plan import DAY, Jump, Operator
from fwd_mta.world.disk import Crash

if TYPE_CHECKING:
    from fwd_mta.simulation.simulation import Simulation

_SOMETIMES = 5
_SLACK = 3 * 3600.0
_FORGOTTEN = 1.5  # seconds that a power cut may take back, where nothing was promised
_AFTER = 2 * 3600.0
_DONE = frozenset({StandingState.DELIVERED, StandingState.RELAYED})
_REPORTED = frozenset({StandingState.FAILED, StandingState.EXPIRED})
_FINAL_WORDS = frozenset(str(one) for one in StandingState if one != "open")


class Violated(Exception):
    """Something is not as promised; `invariant` names what."""

    def __init__(self, invariant: str, words: str) -> None:
        super().__init__(words)
        self.invariant = invariant


class Invariants:
    """The checks of one life."""

    def __init__(self, life: Simulation) -> None:
        self._life = life
        self._final: dict[tuple[str, str], tuple[str, float]] = {}
        self._defects: list[str] = []
        self._seen_notices: dict[str, tuple[tuple[str, str], ...]] = {}
        self._entries: dict[str, QueueEntry] = {}
        self._looked_at = -DAY
        self._purging = False
        self._seen: tuple[int, list[tuple[float, Crash]]] = 0, []

    # Always

    def defect(self, told: str) -> None:
        """Something raised that must not; told by the next step."""
        self._defects.append(told)

    def on_event(self, event: Event) -> None:
        """Nobody is tried again who has a final state; the auditor finds nothing."""
        if isinstance(event, Trouble) and event.where == "auditor":
            if "StoreError" not in event.what:  # a bad disk is none of its defects
                self._defects.append(f"the auditor: {event.what}")
            return
        if not isinstance(event, Attempted):
            return
        key = event.id, event.recipient
        if key in self._final:
            self._defects.append(f"{key} was tried after it was {self._final[key][0]}")
        if event.state in _FINAL_WORDS:
            self._final[key] = event.state, self._life.clock.seconds()

    def power_cut(self) -> None:
        """What was only written in the last second may be forgotten (docs/crashes)."""
        since = self._life.clock.seconds() - _FORGOTTEN
        self._final = {
            key: (state, at) for key, (state, at) in self._final.items() if at < since
        }
        if self._looked_at >= since:
            self._entries.clear()

    def after_step(self) -> None:
        """What is cheap to see."""
        if self._defects:
            raise Violated("no defect", self._defects[0])
        server = self._life.server
        if server is None:
            return
        near = len(server.store._leases.agenda)  # noqa: SLF001 - its bound is checked
        if near > LOOKAHEAD or server.scheduler.active > near + 2000:
            raise Violated("bounded memory", f"{near} messages are near")
        if server.auditor.found:
            raise Violated("the auditor is content", self._life.history.lines[-1])
        if self._life.steps % _SOMETIMES == 0:
            self._within_limits(server)

    def _within_limits(self, server: Server) -> None:
        """No host has more connections of ours than its limit allows."""
        for (host, _), site in server.agent.pool._sites.items():  # noqa: SLF001
            count = site.used + len(site.idle)
            if count > self._life.plan.concurrency:
                raise Violated("limits are kept", f"{count} connections to {host}")

    def never_ends(self) -> NoReturn:
        """The life goes on although all its mail should be over."""
        waiting = [one for one in self._stored() if not one.is_final or one.owed]
        raise Violated(
            "all mail ends", "\n".join(map(_told, waiting)) or "nothing waits"
        )

    # Now and then

    def now_and_then(self) -> None:
        """Look at the whole queue, while a server runs, if anything was written."""
        seen = self._life.disk.calls, self._life.deaths[-1:]
        if seen == self._seen or self._is_starting():
            return
        self._seen = seen
        self._looked_at = self._life.clock.seconds()
        self._one_place()
        stored = self._stored()
        self._is_all_there({entry.id for entry in stored})
        for entry in stored:
            self._is_sound(entry)
            self._is_redacted_in_time(entry)
            before = self._entries.get(entry.id)
            if before is not None:
                _goes_forward(before, entry)
            self._entries[entry.id] = entry
            if entry.cause is not None:
                self._read_notice(entry)

    def _is_all_there(self, ids: set[str]) -> None:
        """The sum of all messages is what was promised, until the first is purged."""
        if self._purging or not self._life.disk_is_well:
            return  # what a bad disk did not move to its place is in no list
        for client in self._life.clients:
            for promise in client.promises:
                if promise.id and promise.id not in ids and self._is_young(promise):
                    words = f"{promise.mark}: {promise.id} is gone"
                    raise Violated("nothing is lost", words)

    def _is_young(self, promise: Promise) -> bool:
        """Whether its record cannot have been purged yet."""
        age = self._life.clock.seconds() - promise.at + self._life.lost_time
        return age < self._policy().record - _SLACK

    def _is_redacted_in_time(self, entry: QueueEntry) -> None:
        due = next_step(entry, self._policy())
        late = self._life.wall.now() - _AFTER - self._life.lost_time
        if due is not None and due[1] < late:
            raise Violated("content is redacted in time", _told(entry))

    def _is_starting(self) -> bool:
        server = self._life.server
        return server is None or server.scheduler.stopping

    def _stored(self) -> list[QueueEntry]:
        server = self._life.server
        if server is None:
            return []
        return self._life.aside(server.store.entries(EntryFilter(finished=True)))

    def _one_place(self) -> None:
        places: dict[str, list[str]] = defaultdict(list)
        for path in self._life.disk.paths():
            directory, _, name = path.rpartition("/")
            if is_entry_id(name) and not directory.endswith("queue/tmp"):
                places[name].append(path)
            if directory.endswith("/corrupt"):
                raise Violated("no file is broken", path)
        for name, found in places.items():
            if len(found) > 1:
                raise Violated("one place", f"{name} is in {found}")

    def _schedule(self) -> RetrySchedule:
        return schedule_of(self._life.configuration())

    def _is_sound(self, entry: QueueEntry) -> None:
        for words in flaws(entry):
            raise Violated("records are sound", f"{words}: {_told(entry)}")
        expires, now = self._schedule().expires_at(entry), self._life.wall.now()
        for standing in entry.open:
            if standing.next_attempt_at <= now:
                continue  # its last try is under way, perhaps of what was just released
            # What waits for doubt's sake is tried ten minutes later, come what may.
            late = standing.next_attempt_at - max(expires, entry.queued_at) - _SLACK
            # What was on hold for longer than that is tried once more (SPEC 3).
            if late > self._life.lost_time and entry.id not in self._life.touched:
                raise Violated("due within its lifetime", _told(entry))

    def _read_notice(self, entry: QueueEntry) -> None:
        """Note what a notice is about, once."""
        server = self._life.server
        if entry.id in self._seen_notices or server is None or entry.redacted_at:
            return
        try:
            message = self._life.aside(server.store.open(entry.id))
        except StoreError as error:
            raise Violated("what is queued can be read", str(error)) from error
        body = message.body if isinstance(message.body, bytes) else b""
        self._seen_notices[entry.id] = tuple(
            (address.decode(), action.decode()) for address, action in _actions(body)
        )
        cause = self._entries.get(entry.cause or "")
        if cause is not None and cause.cause is not None:
            raise Violated("no notice about a notice", _told(entry))
        if entry.envelope.reverse_path is not None:
            raise Violated("notices are from nobody", _told(entry))
        to = [str(one.recipient.mailbox) for one in entry.standings]
        if to != [SENDER]:
            raise Violated("notices go to the sender", _told(entry))

    # At the end

    def at_the_end(self) -> None:
        """See what became of all mail, which is over."""
        self.now_and_then()
        entries = {entry.id: entry for entry in self._stored()}
        for client in self._life.clients:
            for promise in client.promises:
                self._is_kept(promise, entries)
        for entry in entries.values():
            self._is_over(entry)
            self._is_in_time(entry)
        for entry in entries.values():
            if entry.cause is None:
                self._is_told(entry)
                self._arrived(entry)
        self._nothing_else_arrived(entries)
        self._windows_are_kept()
        left = [path for path in self._life.disk.paths() if "/queue/tmp/" in path]
        if left:
            raise Violated("nothing is left over", str(left))

    def _is_kept(self, promise: Promise, entries: dict[str, QueueEntry]) -> None:
        if not promise.id:
            return
        entry = entries.get(promise.id)
        if entry is None and not self._is_young(promise):
            return
        if entry is None:
            raise Violated("nothing is lost", f"{promise.mark}: {promise.id} is gone")
        has = Counter(str(one.recipient.mailbox) for one in entry.standings)
        if set(has) != set(promise.offered):
            raise Violated("nothing is lost", f"{promise.offered}: {_told(entry)}")

    def _is_over(self, entry: QueueEntry) -> None:
        if not entry.is_final or entry.owed or entry.held is not None:
            raise Violated("all mail ends", _told(entry))

    def _is_in_time(self, entry: QueueEntry) -> None:
        """Given up not before the end of its lifetime, and soon after it at last."""
        expires = self._schedule().expires_at(entry)
        finished = entry.finished_at or 0.0
        for standing in entry.standings:
            expired = standing.state is StandingState.EXPIRED
            if expired and (finished < expires or not standing.attempts):
                raise Violated("not given up early", _told(entry))
        late = finished - expires - _SLACK - self._life.lost_time
        if late > 0 and entry.id not in self._life.touched:
            raise Violated("not kept too long", f"{late:.0f} s late: {_told(entry)}")

    def _is_told(self, entry: QueueEntry) -> None:
        """One failure notice for each recipient that failed, if it is wanted."""
        about = Counter(
            pair
            for notice in self._entries.values()
            if notice.cause == entry.id
            for pair in self._seen_notices.get(notice.id, ())
        )
        for (address, action), count in about.items():
            same = [one for one in entry.standings if _address(one) == address]
            if count > max(1, len(same)):
                what = f"{count} notices say {action} of {address}: {_told(entry)}"
                raise Violated("one notice each", what)
        for standing in entry.standings:
            wanted = wants(entry, NoticeKind.FAILED, standing.recipient)
            told = about[_address(standing), "failed"]
            if standing.state in _REPORTED and wanted and not told:
                raise Violated("failures are told", f"{about}: {_told(entry)}")
            if told and standing.state not in _REPORTED and wanted:
                raise Violated("only failures are told", f"{about}: {_told(entry)}")

    def _arrived(self, entry: QueueEntry) -> None:
        """What is delivered did arrive; more than once only as P2 allows, marked."""
        mark = entry.message_id.removeprefix("<").partition("@")[0]
        steps = self._steps(entry)
        self._is_not_early(entry, steps)
        for standing in entry.standings:
            address = _address(standing)
            times = [
                one.at
                for one in self._life.outside.inbox.messages
                if address in one.recipients
                and mark_of(one.content) == mark
                and b"multipart/report" not in one.content[:2000]
            ]
            if standing.state in _DONE and not times:
                raise Violated("delivered is delivered", f"{address}: {_told(entry)}")
            if len(times) > 1:
                self._is_known(entry, standing, steps, len(times))

    def _is_not_early(self, entry: QueueEntry, steps: list[Step]) -> None:
        """What is to be released later is not tried before, unless somebody asks."""
        until = entry.envelope.hold_until or 0.0
        asked = (Operator, Jump)
        if any(isinstance(one, asked) for one in self._life.plan.faults):
            return
        if any(one.attempt and one.attempt.started < until - 1 for one in steps):
            raise Violated("held until its time", f"{until:.0f}: {_told(entry)}")

    def _steps(self, entry: QueueEntry) -> list[Step]:
        server = self._life.server
        assert server is not None  # noqa: S101 - at the end one runs
        return self._life.aside(server.store.timeline(entry.id))

    def _is_known(
        self, entry: QueueEntry, standing: Standing, steps: list[Step], count: int
    ) -> None:
        doubts = sum(_doubted(standing, step) for step in steps)
        cuts = sum(crash is not Crash.KEPT for _, crash in self._life.deaths)
        same = [one for one in entry.standings if _address(one) == _address(standing)]
        if count > len(same) * (1 + doubts + cuts):
            what = f"{count} arrived, {doubts} doubts, {cuts} power cuts"
            raise Violated("no duplicate without doubt", f"{what}: {_told(entry)}")
        marked = standing.possible_duplicate or standing.in_doubt_since is not None
        if not marked and not cuts and len(same) == 1:
            raise Violated("duplicates are marked", f"{count}: {_told(entry)}")

    def _windows_are_kept(self) -> None:
        """An account sent no more in a day than it may; counts may die with us."""
        limit, life = self._life.plan.messages, self._life
        sent = [
            at
            for at, event in life.events
            if isinstance(event, Accepted) and event.account
        ]
        if not limit or any(isinstance(one, Jump) for one in life.plan.faults):
            return
        for end in sent:
            since = end - DAY
            count = sum(since < at <= end for at in sent)
            ends = sum(since < at <= end for at, _ in life.deaths)
            if count > limit * (1 + ends):
                words = f"{count} messages in the day before {end:.0f}, {ends} deaths"
                raise Violated("windows are kept", words)

    def _nothing_else_arrived(self, entries: dict[str, QueueEntry]) -> None:
        known = {
            one.message_id.strip("<>").partition("@")[0] for one in entries.values()
        }
        for message in self._life.outside.inbox.messages:
            mark = mark_of(message.content)
            if self._life.plan.level != "may" and message.tls is None:
                raise Violated("nothing in clear against the policy", mark)
            if mark not in known:
                raise Violated(
                    "nothing from nowhere", f"{mark} to {message.recipients}"
                )

    # Afterwards

    def _policy(self) -> RetentionPolicy:
        retention = self._life.configuration().retention
        return RetentionPolicy(retention.content, retention.record)

    def _when(self, step: RetentionStep) -> float:
        """When that step is due for the last of all, on the virtual clock."""
        due = [self._life.wall.now()]
        for entry in self._stored():
            found = next_step(entry, self._policy())
            while found is not None and found[0] is not step:
                found = (
                    next_step(_redacted(entry), self._policy())
                    if step is RetentionStep.PURGE and not entry.redacted_at
                    else None
                )
            due += [found[1]] if found is not None else []
        return max(due) - self._life.wall.now() + self._life.clock.seconds() + _AFTER

    def content_is_due(self) -> float:
        """When all content must be gone."""
        self._purging = True
        return self._when(RetentionStep.REDACT)

    def redacted(self) -> None:
        """No content is on the disk any more."""
        for path, octets in self._life.disk.files().items():
            if SECRET.encode() in octets:
                raise Violated("content is redacted in time", path)

    def record_is_due(self) -> float:
        """When all records must be gone."""
        return self._when(RetentionStep.PURGE)

    def purged(self) -> None:
        """Nothing of any message is on the disk any more."""
        left = [
            path
            for path in self._life.disk.paths()
            if is_entry_id(path.rpartition("/")[2])
        ]
        if left:
            raise Violated("records are purged in time", str(left))


def _redacted(entry: QueueEntry) -> QueueEntry:
    return replace(entry, redacted_at=0.0)


def _actions(body: bytes) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    address = b""
    for line in body.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name == b"Final-Recipient":
            address = value.rpartition(b"; ")[2]
        elif name == b"Action" and address:
            found.append((address, value))
    return found


def _address(standing: Standing) -> str:
    return str(standing.recipient.mailbox)


def _doubted(standing: Standing, step: Step) -> bool:
    """Whether a step says that nobody knows whether it was delivered."""
    if step.what == "in-doubt":
        return True
    results = step.attempt.results if step.attempt else ()
    return any(
        result.in_doubt and result.recipient == standing.recipient for result in results
    )


def _goes_forward(before: QueueEntry, after: QueueEntry) -> None:
    for old, new in zip(before.standings, after.standings, strict=True):
        if not old.is_open and old.state is not new.state:
            raise Violated("final is final", f"{_told(before)}\nthen {_told(after)}")
        if new.attempts < old.attempts:
            raise Violated("nothing is forgotten", f"{old}\nthen {new}")


def _told(entry: QueueEntry) -> str:
    standings = "; ".join(
        f"{_address(one)} {one.state.value}, {one.attempts} tries, next"
        f" {one.next_attempt_at:.0f}{', in doubt' if one.in_doubt_since else ''}"
        f"{', perhaps twice' if one.possible_duplicate else ''}"
        for one in entry.standings
    )
    return (
        f"{entry.id} ({entry.message_id}{', a notice' if entry.cause else ''}) queued"
        f" {entry.queued_at:.0f}, finished {entry.finished_at}, held {entry.held},"
        f" owes {[one.id for one in entry.owed]}: {standings}"
    )
