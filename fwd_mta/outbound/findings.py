"""What a delivery has found out: a result for each recipient, and what was tried."""

from collections import Counter
from collections.abc import Iterable, Sequence

from fwd_mta.mail.entry import Action, DeliveryResult, Diagnosis, Stage
from fwd_mta.mail.envelope import Notify, Recipient
from fwd_mta.mail.reply import Reply
from fwd_mta.outbound.connection import Trouble
from fwd_mta.outbound.transaction import Heard, Transaction
from fwd_mta.rules.classification import RuleTable

_ANSWERS_TOLD = 5
LONGEST_LINE = 1000
_LONGEST_TEXT = 4096
_BEFORE_DATA = frozenset({Stage.MAIL, Stage.RCPT})
_BEFORE_DOT = frozenset({*_BEFORE_DATA, Stage.DATA})


class Findings:
    """What is known of each recipient of a delivery; `trail` says what was tried.

    `source` is the address we go out from now, `lack_8bit` who waits for a host that
    takes 8-bit content.
    """

    def __init__(
        self, recipients: Sequence[Recipient], table: RuleTable, *, lmtp: bool
    ) -> None:
        self.trail: list[str] = []
        self.source: str | None = None
        self.lack_8bit: set[Recipient] = set()
        self._recipients = recipients
        self._table = table
        self._lmtp = lmtp
        self._done: dict[Recipient, DeliveryResult] = {}
        self._hoped: dict[Recipient, DeliveryResult] = {}
        self._only: set[Recipient] = set()

    def open(self) -> list[Recipient]:
        """Who has no final result yet and is to be tried."""
        return [
            each
            for each in dict.fromkeys(self._recipients)
            if each not in self._done and (not self._only or each in self._only)
        ]

    def results(self) -> tuple[DeliveryResult, ...]:
        """What is known of each recipient, in the order of the envelope."""
        known = {**self._hoped, **self._done}
        return tuple(known[each] for each in self._recipients if each in known)

    # Taking in

    def note(self, words: str) -> None:
        """Add a line to the trail."""
        self.trail.append(words[:LONGEST_LINE])

    def all(self, heard: Heard) -> None:
        """Give this result to every recipient that is open."""
        for each in self.open():
            self._done[each] = self._result(each, heard)

    def fail_rest(self, trouble: Trouble) -> None:
        """Give every recipient that has no result yet this one."""
        self.all(Heard(Stage.CONNECT, None, trouble))

    def interrupt(self, why: str) -> None:
        """Leave whoever has no result untried: another host might have had one."""
        self._hoped.clear()
        self.note(f"interrupted: {why}")

    def only(self, recipients: Iterable[Recipient]) -> None:
        """Go on with these alone, and forget what was hoped for them."""
        self._only = set(recipients)
        for each in self._only:
            self._hoped.pop(each, None)

    def hope(
        self,
        recipients: Iterable[Recipient],
        heard: Heard,
        host: str | None = None,
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

    def take_in(
        self, transaction: Transaction, host: str, tls: str | None, *, dsn: bool
    ) -> None:
        """Take in how a transaction with a host ended; `dsn`: it offers that."""
        for each, heard in transaction.heard.items():
            if _may_differ_elsewhere(heard):
                self.hope([each], heard, host, tls)
            else:
                self._done[each] = self._result(each, heard, host, tls, dsn=dsn)
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
        host: str | None = None,
        tls: str | None = None,
        *,
        dsn: bool = True,
    ) -> DeliveryResult:
        diagnosis = self._diagnosis(heard)
        asked = recipient.notify is not None and recipient.wants(Notify.SUCCESS)
        return DeliveryResult(
            recipient,
            heard.stage,
            shortened(heard.reply),
            diagnosis,
            host,
            tls,
            heard.in_doubt,
            relayed=diagnosis is None and asked and not dsn and not self._lmtp,
            source=self.source if host else None,
            at_home=diagnosis is None and self._lmtp and not dsn,
        )

    def _diagnosis(self, heard: Heard) -> Diagnosis | None:
        table, trouble = self._table, heard.trouble
        if heard.reply is not None:
            if heard.reply.is_positive:
                return None
            return table.diagnose(heard.reply, heard.stage)
        if trouble is None:
            return None
        return table.trouble(trouble.kind, trouble.detail, heard.stage)


def shortened(reply: Reply | None) -> Reply | None:
    """A reply as it is kept: a peer may send 64 KiB, and each is written down."""
    if reply is None or len(reply.text) <= _LONGEST_TEXT:
        return reply
    return reply._replace(text=reply.text[:_LONGEST_TEXT] + "...")


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
