"""TLS reports over the days: counted, kept over restarts, sent when a day is over.

A day's counts are sent to each place that the domain names, once, at some moment of the
four hours behind it (RFC 8460 5). What fails is tried again until the day after the
reported one is over. Mail with a report goes into the queue like any other; sessions
that carry it are not counted, since their message wants no policy applied.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from fwd_mta.events import Emit, Reported, Trouble
from fwd_mta.interfaces import (
    Disk,
    Entropy,
    QueueWriter,
    ReportHost,
    Resolver,
    WallClock,
    Worker,
)
from fwd_mta.mail.address import parse_mailbox
from fwd_mta.mail.entry import QueueEntry, Standing
from fwd_mta.mail.envelope import Envelope, Notify, Recipient
from fwd_mta.mail.errors import FetchError, StoreError, SyntaxFault
from fwd_mta.mail.message import Message
from fwd_mta.mail.route import CannotSay, Found
from fwd_mta.net.small_file import read_whole, replace_whole
from fwd_mta.rules import tlsrpt
from fwd_mta.rules.identity import entry_id
from fwd_mta.rules.signing import BodyHash, SigningKey, keys_for, signed
from fwd_mta.rules.tlsrpt import DAY, Applied, Count, Failure, Kind, Report, Reporter

LOOK_EVERY = 60.0
_SPREAD = 4 * 3600.0
_PAUSE = 3600.0
_LIFETIME = 86_400.0
_MOST_DOMAINS = 10_000


@dataclass(slots=True)
class _Account:
    """One domain's day: its counts, where they were sent, when to try (again)."""

    counts: dict[Applied, Count] = field(default_factory=dict)
    sent: set[str] = field(default_factory=set)
    due: float = 0.0


class TlsReports:
    """Counts sessions by `count`, and reports them. Without a `reporter` it is idle."""

    def __init__(
        self,
        path: str,
        disk: Disk,
        worker: Worker,
        clock: IReactorTime,
        wall: WallClock,
        entropy: Entropy,
        resolver: Resolver,
        queue: QueueWriter,
        host: ReportHost,
        emit: Emit,
        reporter: Reporter | None,
        keys: Callable[[], Sequence[SigningKey]],
    ) -> None:
        self.reporter = reporter
        self._path = path
        self._disk = disk
        self._worker = worker
        self._wall = wall
        self._entropy = entropy
        self._resolver = resolver
        self._queue = queue
        self._host = host
        self._emit = emit
        self._keys = keys
        self._days: dict[int, dict[str, _Account]] = {}
        self._changed = False
        self._loop = LoopingCall(self._look_now)
        self._loop.clock = clock
        self.every = LOOK_EVERY
        self._ended: Deferred[LoopingCall] | None = None

    def count(self, domain: str, applied: Applied, failure: Failure | None) -> None:
        """Count one session; None: it was as the policy wants it."""
        day = self._days.setdefault(int(self._wall.now() // DAY), {})
        account = day.get(domain)
        if account is None:
            if len(day) >= _MOST_DOMAINS:
                return
            account = day[domain] = _Account()
        account.counts.setdefault(applied, Count()).add(failure)
        self._changed = True

    # Life

    async def start(self) -> None:
        """Take in what was kept, and look every minute from now on."""
        try:
            content = await self._worker.run(lambda: read_whole(self._disk, self._path))
            self._days = _days_in(json.loads(content)) if content else {}
        except Exception as error:  # noqa: BLE001 - counts only; mail must go on
            what = f"{self._path} cannot be used: {type(error).__name__}: {error}"
            self._emit(Trouble("tls-reports", what, "counting begins anew"))
        self._ended = self._loop.start(self.every, now=True)

    async def stop(self) -> None:
        """Write a last time."""
        ended, self._ended = self._ended, None
        if ended is not None:
            if self._loop.running:
                self._loop.stop()
            await ended
            await self._write()

    def _look_now(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._look())

    async def _look(self) -> None:
        today = int(self._wall.now() // DAY)
        for day in sorted(one for one in self._days if one < today):
            if day < today - 1:
                self._give_up(day)
            elif self.reporter is not None:
                await self._report_day(day, self.reporter)
        await self._write()

    def _give_up(self, day: int) -> None:
        """Drop what could not be told within a day."""
        self._changed = True
        for domain in self._days.pop(day):
            self._emit(Trouble("tls-reports", f"no report reached {domain}"))

    async def _write(self) -> None:
        if not self._changed:
            return
        self._changed = False
        octets = json.dumps(_days_out(self._days)).encode()
        try:
            await self._worker.run(
                lambda: replace_whole(self._disk, self._path, octets)
            )
        except Exception as error:  # noqa: BLE001 - counts only; mail must go on
            self._changed = True
            what = f"{self._path} cannot be written: {type(error).__name__}: {error}"
            self._emit(Trouble("tls-reports", what, "it is tried again"))

    # Reporting

    async def _report_day(self, day: int, reporter: Reporter) -> None:
        accounts = self._days[day]
        for domain, account in list(accounts.items()):
            now = self._wall.now()
            if not account.due:
                spread = _SPREAD * self._entropy.random()
                account.due = (day + 1) * DAY + spread
                self._changed = True
            if now < account.due:
                continue
            self._changed = True
            if await self._report(Report(domain, day), account, reporter):
                del accounts[domain]
            else:
                account.due = now + _PAUSE
        if not accounts:
            del self._days[day]

    async def _report(
        self, report: Report, account: _Account, reporter: Reporter
    ) -> bool:
        """Tell everybody who asks; whether nothing is left to be told."""
        answer = await self._resolver.text(f"_smtp._tls.{report.domain}")
        if isinstance(answer, CannotSay):
            return False
        texts = answer.records if isinstance(answer, Found) else ()
        wanted = tlsrpt.destinations(texts)
        octets = tlsrpt.packed(tlsrpt.as_json(report, account.counts, reporter))
        for place in wanted:
            if place not in account.sent:
                await self._tell(report, octets, place, account, reporter)
        return account.sent.issuperset(wanted)

    async def _tell(
        self,
        report: Report,
        octets: bytes,
        place: str,
        account: _Account,
        reporter: Reporter,
    ) -> None:
        try:
            if place.lower().startswith("https:"):
                await self._host.post(place, octets)
            else:
                await self._mail(report, octets, place, reporter)
        except (FetchError, StoreError) as error:
            what = f"a report for {report.domain} to {place}: {error}"
            self._emit(Trouble("tls-reports", what, "it is tried again for a day"))
            return
        account.sent.add(place)
        self._emit(Reported(report.domain, place, report.id(reporter)))

    async def _mail(
        self, report: Report, octets: bytes, place: str, reporter: Reporter
    ) -> None:
        """Put a signed mail into the queue, once: its id follows from what it is."""
        address = unquote(place.partition(":")[2].partition("?")[0])
        try:
            to, sender = parse_mailbox(address), parse_mailbox(reporter.sender)
        except SyntaxFault:
            return  # nobody can be told there
        now = self._wall.now()
        boundary = self._entropy.octets(12).hex()
        head, body = tlsrpt.message(report, octets, address, reporter, now, boundary)
        head = self._signed(head, body, now)
        recipient = Recipient(to, notify=(Notify.NEVER,))
        number = sha256(f"{report.id(reporter)} {place}".encode()).digest()
        made = Message(head, body)
        entry = QueueEntry(
            id=entry_id((report.day + 1) * DAY, number),
            account=None,
            envelope=Envelope(sender, (recipient,)),
            standings=(Standing(recipient, now),),
            queued_at=now,
            size=made.size,
            message_id=f"<{report.id(reporter)}>",
            lifetime=_LIFETIME,
        )
        await self._queue.add(entry, made)

    def _signed(self, head: bytes, body: bytes, now: float) -> bytes:
        """With our signature; a report without one must not be believed (3)."""
        digest = BodyHash()
        digest.update(body)
        return signed(head, digest.digest(), keys_for(head, self._keys()), now)


# On disk

_Json = dict[str, Any]


def _days_out(days: dict[int, dict[str, _Account]]) -> _Json:
    return {
        str(day): {
            domain: {
                "due": account.due,
                "sent": sorted(account.sent),
                "counts": list(_counts_out(account)),
            }
            for domain, account in accounts.items()
        }
        for day, accounts in days.items()
    }


def _counts_out(account: _Account) -> Iterator[_Json]:
    for applied, count in account.counts.items():
        yield {
            "policy": [applied.kind.value, applied.domain],
            "strings": list(applied.strings),
            "hosts": list(applied.hosts),
            "good": count.good,
            "bad": [
                [one.result, one.host, one.address, one.source, one.reason, times]
                for one, times in count.bad.items()
            ],
        }


def _days_in(kept: _Json) -> dict[int, dict[str, _Account]]:
    return {
        int(day): {
            domain: _Account(
                dict(_count_in(count) for count in one["counts"]),
                set(one["sent"]),
                float(one["due"]),
            )
            for domain, one in accounts.items()
        }
        for day, accounts in kept.items()
    }


def _count_in(kept: _Json) -> tuple[Applied, Count]:
    kind, domain = kept["policy"]
    applied = Applied(Kind(kind), domain, tuple(kept["strings"]), tuple(kept["hosts"]))
    count = Count(int(kept["good"]))
    for *words, times in kept["bad"]:
        count.bad[Failure(*words)] += int(times)
    return applied, count
