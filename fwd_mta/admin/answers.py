"""What is known of messages, as JSON objects for the command and for programs."""

from typing import Any

from fwd_mta.mail.entry import (
    Attempt,
    DeliveryResult,
    QueueEntry,
    Standing,
    Step,
)

Json = dict[str, Any]

RECIPIENTS_IN_ROW = 5


def row(entry: QueueEntry) -> Json:
    """One entry as a list shows it; times are seconds since the epoch."""
    mailboxes = [str(one.recipient.mailbox) for one in entry.standings]
    last = _telling(entry)
    return {
        "id": entry.id,
        "state": entry.status,
        "held": entry.held,
        "account": entry.account,
        "sender": _sender(entry),
        "recipients": mailboxes[:RECIPIENTS_IN_ROW],
        "recipient_count": len(mailboxes),
        "size": entry.size,
        "queued_at": entry.queued_at,
        "next_at": None if entry.held is not None else entry.due,
        "attempts": max((one.attempts for one in entry.standings), default=0),
        "message_id": entry.message_id,
        "cause": entry.cause,
        "via": entry.via,
        "last": _result(last.last) if last and last.last else None,
    }


def _telling(entry: QueueEntry) -> Standing | None:
    """Find the standing that explains the entry best: one that waits, or failed."""
    told = [one for one in entry.standings if one.last is not None]
    troubled = [one for one in told if one.last and one.last.diagnosis]
    waiting = [one for one in troubled if one.is_open]
    return next(iter(waiting or troubled or told), None)


def _sender(entry: QueueEntry) -> str:
    path = entry.envelope.reverse_path
    return "<>" if path is None else str(path)


def whole(entry: QueueEntry) -> Json:
    """One entry with all its recipients."""
    envelope = entry.envelope
    return row(entry) | {
        "standings": [_standing(one) for one in entry.standings],
        "client": entry.origin.client,
        "hello": entry.origin.hello,
        "protocol": entry.origin.protocol,
        "tls": entry.origin.tls,
        "checks": list(entry.origin.checks),
        "envid": envelope.envid,
        "require_tls": envelope.require_tls,
        "hold_until": envelope.hold_until,
        "notices": entry.notices,
        "finished_at": entry.finished_at,
        "redacted_at": entry.redacted_at,
    }


def _standing(standing: Standing) -> Json:
    return {
        "recipient": str(standing.recipient.mailbox),
        "state": standing.state,
        "attempts": standing.attempts,
        "next_at": standing.next_attempt_at if standing.is_open else None,
        "in_doubt_since": standing.in_doubt_since,
        "possible_duplicate": standing.possible_duplicate,
        "last": _result(standing.last) if standing.last else None,
    }


def _result(result: DeliveryResult) -> Json:
    """One result with all that P3 asks for."""
    told = {
        "recipient": str(result.recipient.mailbox),
        "delivered": result.delivered,
        "stage": result.stage,
        "host": result.host,
        "tls": result.tls,
        "reply": str(result.reply) if result.reply else None,
        "in_doubt": result.in_doubt,
    }
    diagnosis = result.diagnosis
    if diagnosis is None:
        return told
    return told | {
        "action": diagnosis.action,
        "category": diagnosis.category,
        "scope": diagnosis.scope,
        "message": diagnosis.message,
        "code": diagnosis.code,
        "status": diagnosis.status,
        "rule": diagnosis.rule,
    }


def step_json(step: Step) -> Json:
    """One step of a timeline."""
    return {
        "at": step.at,
        "what": step.what,
        "note": step.note,
        "attempt": _attempt(step.attempt) if step.attempt else None,
    }


def _attempt(attempt: Attempt) -> Json:
    return {
        "started": attempt.started,
        "ended": attempt.ended,
        "trail": list(attempt.trail),
        "results": [_result(result) for result in attempt.results],
    }
