"""Tells the operator by mail what is wrong: once per cause and day.

Doorway: `Alarms.hear`, which is given every event. The mail goes through the queue like
any other, with a null reverse-path; an alarm about alarms is only logged.
"""

from collections import OrderedDict

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from fwd_mta.events import Emit, Event, SiteRests, Suspended, Trouble
from fwd_mta.interfaces import Entropy, QueueWriter, WallClock
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import QueueEntry, Standing
from fwd_mta.mail.errors import StoreError
from fwd_mta.mail.message import Message
from fwd_mta.rules.alarm import Alarm, envelope_to, written
from fwd_mta.rules.identity import entry_id

DAY = 86400.0
A_DAY = 50  # mails; what is over it stands in the log alone
_CAUSES = 1000  # remembered; the oldest make room


class Alarms:
    """Knows of what the operator was told lately; `mailbox` None tells nobody."""

    def __init__(
        self,
        writer: QueueWriter,
        hostname: str,
        wall: WallClock,
        entropy: Entropy,
        emit: Emit,
    ) -> None:
        self.mailbox: Mailbox | None = None
        self._writer = writer
        self._hostname = hostname
        self._wall = wall
        self._entropy = entropy
        self._emit = emit
        self._told: OrderedDict[str, float] = OrderedDict()
        self._waiting: list[Alarm] | None = []

    def start(self) -> None:
        """The queue takes mail: send what was heard before."""
        waiting, self._waiting = self._waiting or [], None
        for alarm in waiting:
            self._send_later(alarm)

    def stop(self) -> None:
        """The queue is about to close."""
        self._waiting = []

    def hear(self, event: Event) -> None:
        """Send a mail about it when it is an alarm whose cause is new; never raises."""
        alarm = _alarm(event)
        if self.mailbox is None or alarm is None or not self._is_new(alarm.cause):
            return
        if self._waiting is None:
            self._send_later(alarm)
        else:
            self._waiting.append(alarm)

    def _is_new(self, cause: str) -> bool:
        now = self._wall.now()
        while self._told and next(iter(self._told.values())) <= now - DAY:
            self._told.popitem(last=False)
        if cause in self._told or len(self._told) >= A_DAY:
            return False
        self._told[cause] = now
        return True

    def _send_later(self, alarm: Alarm) -> None:
        _ = Deferred.fromCoroutine(self._send(alarm)).addErrback(self._broken)

    async def _send(self, alarm: Alarm) -> None:
        if self.mailbox is None:
            return
        now = self._wall.now()
        name = entry_id(now, self._entropy.octets(8))
        head, body = written(alarm, self.mailbox, self._hostname, name, now)
        envelope = envelope_to(self.mailbox)
        message = Message(head, body)
        entry = QueueEntry(
            id=name,
            account=None,
            envelope=envelope,
            standings=tuple(Standing(one, now) for one in envelope.recipients),
            queued_at=now,
            size=message.size,
            message_id=f"<{name}@{self._hostname}>",
        )
        try:
            await self._writer.add(entry, message)
        except StoreError as error:
            self._failed(error)

    def _broken(self, failure: Failure) -> None:
        self._failed(failure.value)

    def _failed(self, error: BaseException | None) -> None:
        what = f"no mail to the operator: {type(error).__name__}: {error}"
        self._emit(Trouble("alarms", what, "see the log for what it was about"))


def _alarm(event: Event) -> Alarm | None:
    """What an event is an alarm about; its cause is what makes it new or not."""
    match event:
        case Trouble(where, what, cure) if where != "alarms":
            return Alarm(f"trouble {where.partition(' ')[0]}", where, what, cure)
        case Suspended(account, reason, cure):
            what = f"The account {account} is held: {reason}"
            return Alarm(f"held {account}", f"account {account}", what, cure)
        case SiteRests(site, source, reply, seconds) if _is_block(event):
            what = f"{site} refuses us for {int(seconds // 60)} minutes: {reply}"
            cure = "ask the list or the site that is named to take the address off"
            return Alarm(f"site {site} {source}", f"site {site}", what, cure)
        case _:
            return None


def _is_block(event: SiteRests) -> bool:
    return event.seconds >= 3600
