"""The seams: what each room needs of the world, as typing Protocols.

Real things are in `net`, `inbound`, `queue`, `outbound`; twins in `world` pass the same
contract tests. Timers run on Twisted's `IReactorTime`; dates on `WallClock`.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from sqlite3 import Connection
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocol, IProtocolFactory
from twisted.internet.protocol import DatagramProtocol

from fwd_mta.mail.account import Account
from fwd_mta.mail.entry import Attempt, EntryFilter, QueueEntry, Status, Step
from fwd_mta.mail.envelope import Envelope, Recipient
from fwd_mta.mail.message import Body, Message
from fwd_mta.mail.noun import noun
from fwd_mta.mail.route import CannotSay, Destination, Exchanger, Found, NoSuchName
from fwd_mta.mail.scan import ScanReport
from fwd_mta.mail.session import Session
from fwd_mta.smtp.scram import ScramKeys

Row = Mapping[str, object]
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


# Clocks, chance, threads


class WallClock(Protocol):
    """Dates, due times and expiry."""

    def now(self) -> float:
        """Seconds since the epoch."""


class Entropy(Protocol):
    """Chance: ids, salts, boundaries, jitter."""

    def random(self) -> float:
        """Give a number in [0, 1)."""

    def octets(self, count: int) -> bytes:
        """Give unpredictable octets."""


class Worker(Protocol):
    """One or more named threads for blocking work.

    A job takes frozen values and returns one; it never touches what the reactor owns.
    """

    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Run the job off the reactor thread; fires on the reactor thread."""


# Disk


@dataclass(frozen=True, slots=True)
class Space:
    """What is left of a file system."""

    octets: int
    inodes: int


class DiskFile(Protocol):
    """An open file. Every method may raise OSError; a short write raises it too."""

    def append(self, data: bytes) -> None:
        """Write at the end."""

    def write_at(self, offset: int, data: bytes) -> None:
        """Write at an offset."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Give up to `length` octets from `offset`; empty at the end."""

    def size(self) -> int:
        """Octets in the file."""

    def sync(self) -> None:
        """Return when the file's data and size are on stable storage."""

    def close(self) -> None:
        """Release the descriptor."""


class Disk(Protocol):
    """The few file-system calls the store makes; all blocking, all may raise OSError.

    Paths are absolute text. A name is durable only after `sync_directory` of its
    directory, content only after `sync` of its file.
    """

    def create(self, path: str) -> DiskFile:
        """Make a new file, 0600; FileExistsError if the name is taken."""

    def open(self, path: str) -> DiskFile:
        """Open an existing file to read and append."""

    def rename(self, source: str, target: str) -> None:
        """Rename, replacing the target atomically."""

    def remove(self, path: str) -> None:
        """Remove a file."""

    def make_directory(self, path: str) -> None:
        """Make a directory, 0700, and its parents; fine if it is there."""

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""

    def sync_directory(self, path: str) -> None:
        """Return when the directory's names are on stable storage."""

    def sync_all(
        self, wanted: Sequence[DiskFile | str]
    ) -> dict[DiskFile | str, OSError]:
        """Sync files, and directories by their paths; gives what failed, and how.

        Side by side where the disk gains by it: many waits become one.
        """

    def names(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty if there is no such directory."""

    def scan(self, path: str) -> Iterator[str]:
        """Names in a directory one by one, in no order, without listing it whole."""

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory of that name."""

    def space(self, path: str) -> Space:
        """What is left where the path lies."""

    def lock(self, path: str, text: str) -> Callable[[], None]:
        """Take a lock file, for this process alone; gives what releases it.

        `text` says who holds it; StoreError, with that text, when another does.
        """


class Databases(Protocol):
    """SQLite files, for what is derived and disposable."""

    def open(self, path: str) -> Connection:
        """Open or make one, for one thread at a time; nobody else may read it."""

    def remove(self, path: str) -> None:
        """Remove one and what belongs to it; fine if there is none."""


# Network


class Network(Protocol):
    """All sockets. Addresses are numeric ("127.0.0.1", "::1") or "unix:/path"."""

    def connect(
        self,
        address: str,
        port: int,
        factory: IProtocolFactory,
        timeout: float,
        source: str | None = None,
    ) -> Deferred[IProtocol]:
        """Connect a stream; fails with a twisted.internet.error, never hangs."""

    def listen(
        self, address: str, factory: IProtocolFactory
    ) -> Deferred[IListeningPort]:
        """Listen on "host:port", "[v6]:port", "unix:/path" or "systemd:NAME"."""

    def datagram(
        self, address: str, port: int, protocol: DatagramProtocol
    ) -> IListeningPort:
        """Open a UDP socket connected to the address."""


# Names


Answer = Found[T] | NoSuchName | CannotSay


class Resolver(Protocol):
    """DNS, as far as mail needs it. Never raises: trouble is `CannotSay`."""

    def exchangers(self, domain: str) -> Awaitable[Answer[Exchanger]]:
        """MX records; a null MX (RFC 7505) has the name "" or "."."""

    def addresses(self, host: str) -> Awaitable[Answer[str]]:
        """A and AAAA records as text, in the order of the answer, A first."""

    def tlsa(self, host: str, port: int) -> Awaitable[Answer[bytes]]:
        """TLSA records at _port._tcp.host, in wire form (RFC 6698)."""

    def text(self, name: str) -> Awaitable[Answer[str]]:
        """TXT records, the strings of each joined."""


class PolicyHost(Protocol):
    """Where domains publish their MTA-STS policies (RFC 8461 3.3)."""

    def fetch(self, domain: str) -> Awaitable[str]:
        """The text of a domain's policy, over verified HTTPS; raises FetchError."""


class ReportHost(Protocol):
    """Where domains take TLS reports by HTTPS (RFC 8460 3)."""

    def post(self, url: str, report: bytes) -> Awaitable[None]:
        """Hand a packed report over; raises FetchError when it was not taken."""


# Who may send, what it carries


class Accounts(Protocol):
    """A source of accounts; all raise LookUpFailed when they cannot say."""

    def find(self, login: str) -> Awaitable[Account | None]:
        """The account of a login (its own, or a domain-wide one), or None."""

    def verify(self, login: str, password: str) -> Awaitable[Account | None]:
        """The account if the password is right, None if login or password is not.

        Takes as long for an unknown login as for a wrong password.
        """

    def offers_scram(self) -> bool:
        """Whether every password of every account has SCRAM keys."""

    def scram_keys(self, login: str) -> Awaitable[Sequence[ScramKeys]]:
        """The SCRAM keys of a login, all with one salt; never none.

        An unknown login has made-up ones, always the same.
        """


class AccountRows(Protocol):
    """Accounts in a database; its queries are the operator's."""

    def rows(
        self, query: str, values: Sequence[Mapping[str, str]]
    ) -> Awaitable[list[list[Row]]]:
        """Run a query once with each set of values; the rows of each, a few at most.

        A value stands in the query as :name, and never becomes a part of it. Raises
        LookUpFailed.
        """

    def close(self) -> None:
        """Let the connections go."""


class Scanner(Protocol):
    """Looks at a message before it is queued; `name` is what reports call it."""

    @property
    def name(self) -> str:
        """One word."""

    def scan(
        self, session: Session, envelope: Envelope, message: Message
    ) -> Awaitable[ScanReport]:
        """Report; may be cancelled, and then leaves nothing open."""


# The queue


class Spool(Protocol):
    """Where a body goes while it arrives: memory when small, a file when large."""

    def write(self, data: bytes) -> None:
        """Take more octets; never blocks, never raises (`done` does)."""

    @property
    def backlog(self) -> int:
        """Octets taken but not yet written; the client is paused above a bound."""

    def drained(self) -> Deferred[None]:
        """Fires when the backlog is small again."""

    def done(self) -> Awaitable[bytes | Body]:
        """End; gives the body, or raises StoreError."""

    def discard(self) -> None:
        """Forget all of it; fine at any time, also after `done`."""


class QueueWriter(Protocol):
    """The face of the store that intake holds."""

    def has_room(self, octets: int) -> bool:
        """Whether a message of that size fits beside the reserve (SPEC [queue])."""

    def spool(self) -> Spool:
        """Begin a body."""

    def add(self, entry: QueueEntry, message: Message) -> Awaitable[None]:
        """Durable when it returns; a no-op for an id already there.

        Raises StoreError or NoSpace; then nothing was promised and nothing is left.
        """


class QueueWorker(Protocol):
    """The face that the scheduler holds."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call back whenever `next_due` may have become earlier."""

    def claim(self, now: float, count: int) -> Awaitable[list[QueueEntry]]:
        """Entries due by `now`, oldest due first; leased until recorded not due.

        An entry is given out once; `record` or `pay` ends the lease. Entries that owe
        notices are due at once.
        """

    def next_due(self) -> float | None:
        """The wall time of the earliest unclaimed entry, or None."""

    def open(self, entry_id: str) -> Awaitable[Message]:
        """The content; raises Corrupt or StoreError."""

    def at_hand(self, entry_id: str) -> Message | None:
        """The content, if it is in memory."""

    def dot_sent(
        self, entry_id: str, recipients: Sequence[Recipient], now: float
    ) -> Awaitable[None]:
        """Note that a final dot is about to go out (P2); survives a kill."""

    def record(
        self, entry: QueueEntry, step: Step, *, release: bool = True
    ) -> Awaitable[QueueEntry]:
        """Write the entry's new state, durable when it returns.

        Gives the entry as stored, operators' waiting changes applied. With `release`
        the lease ends and it is filed by its state, unless it owes notices.
        """

    def postpone(self, entry: QueueEntry, until: float) -> Awaitable[None]:
        """End the lease of an entry that was not tried; look at it again by then.

        Nothing is recorded: it stays due as it was, and after a restart may come
        earlier.
        """

    def pay(
        self, entry: QueueEntry, notices: Sequence[tuple[QueueEntry, Message]]
    ) -> Awaitable[QueueEntry]:
        """Put the owed notices into the queue and clear them from their parent.

        All or nothing, with one commit point; then the lease ends.
        """


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did; `digest` is the SHA-256 of its lines, "redact ID" each."""

    redacted: int = 0
    purged: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Census:
    """How many messages wait, by place, and when the oldest of them came."""

    incoming: int = 0
    deferred: int = 0
    held: int = 0
    oldest: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries of a list, oldest first; `next` goes into `after`, None: the end."""

    entries: tuple[QueueEntry, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Ids:
    """Some ids of a list, as the index knows them; `next` as in a page."""

    ids: tuple[str, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """A part of a count: how many of each state, how many on hold."""

    counts: Mapping[Status, int]
    held: int = 0
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """A part of a count of recipients that wait: a name, its row by age."""

    rows: Mapping[str, Sequence[int]]
    next: str | None = None


class FindingKind(StrEnum):
    """What is wrong with something on the disk."""

    CONTENT = "content"
    RECORD = "record"
    DAMAGE = "damage"
    PLACE = "place"
    LEFTOVER = "leftover"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing on the disk that is not as it should be; `path` is below state_dir."""

    path: str
    kind: FindingKind
    what: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Inspected:
    """A page of a walk over the disk; `next` goes into the next call, None: the end."""

    files: int
    octets: int
    findings: tuple[Finding, ...] = ()
    next: str | None = None


Change = Callable[[QueueEntry], QueueEntry]


class QueueKeeper(Protocol):
    """The face that operators and the retention sweep hold."""

    def entries(self, wanted: EntryFilter) -> Awaitable[list[QueueEntry]]:
        """Entries that the filter takes, oldest first."""

    def page(self, wanted: EntryFilter) -> Awaitable[Page]:
        """The next entries that the filter takes, `wanted.limit` at most.

        A page may be short, or empty, and not the last: each takes little time.
        """

    def ids(self, wanted: EntryFilter) -> Awaitable[Ids]:
        """The next ids that the filter takes, by the index: nothing is opened."""

    def tally(self, wanted: EntryFilter) -> Awaitable[Tally]:
        """Count what the filter takes, the next part of it."""

    def shape(self, by: str, now: float, after: str = "") -> Awaitable[Shape]:
        """Count the recipients that wait by "site" or "domain" and age, a part."""

    def timeline(self, entry_id: str) -> Awaitable[list[Step]]:
        """All that happened to an entry; empty if it is not known."""

    def open(self, entry_id: str) -> Awaitable[Message]:
        """The content; raises Corrupt or StoreError."""

    def change(
        self, entry_id: str, change: Change, step: Step
    ) -> Awaitable[QueueEntry | None]:
        """Apply a pure change (hold, release, cancel, retry now) and record it.

        Of a finished entry only what it is kept for can change.

        On a leased entry it is applied when the running attempt is recorded; then the
        entry is given as it is now. None: no such entry.
        """

    def redact(self, entry_id: str) -> Awaitable[bool]:
        """Replace the content of a finished message by its placeholder, durably."""

    def sweep(self, now: float) -> Awaitable[Swept]:
        """Redact and purge what is due by the retention policy."""

    def inspect(self, after: str = "") -> Awaitable[Inspected]:
        """Read the next files behind the path `after`, every byte of them."""

    def census(self) -> Awaitable[Census]:
        """Count what waits, without opening it; others are served in between."""


class QueueStore(QueueWriter, QueueWorker, QueueKeeper, Protocol):
    """All three faces, and the store's own life."""

    def start(self, now: float) -> Awaitable[None]:
        """Take the lock, recover what a crash left; raises StoreError."""

    def stop(self) -> Awaitable[None]:
        """Finish what was begun, release the lock."""


# Going out


def _nobody() -> None:
    """Nobody waits for a turn."""


@noun
class Delivery:
    """The unit that goes out: one entry's recipients for one destination.

    `envelope.recipients` are those of this delivery. `before_dot` is awaited before the
    bytes of a final dot are handed to the transport; it raises Interrupted when no new
    dot may go out. `shunned`: our source addresses that are better not used there.
    `follow` lets another delivery to the same site begin, if one waits for its turn.
    """

    entry_id: str
    envelope: Envelope
    destination: Destination
    message: Message
    before_dot: Callable[[Sequence[Recipient]], Awaitable[None]]
    shunned: frozenset[str] = frozenset()
    follow: Callable[[], None] = _nobody


class DeliveryAgent(Protocol):
    """Delivers; what the other side does wrong is a result, never an exception."""

    def deliver(self, delivery: Delivery) -> Awaitable[Attempt]:
        """Try once; a recipient without a result was not tried (Interrupted)."""

    def at_once(self, delivery: Delivery, done: Callable[[Attempt], None]) -> bool:
        """Begin a delivery if nothing has to be waited for; `done` hears of its end.

        False: nothing was begun, and `deliver` does it.
        """

    def site(self, destination: Destination) -> Awaitable[str]:
        """The name of the site that a destination belongs to; empty: no host at all.

        Domains with the same exchangers are one site.
        """

    def stop(self) -> Awaitable[None]:
        """Close idle connections."""
