"""Failures without a reply: what they mean and what they ask of us (SPEC section 3)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fwd_mta.mail.entry import Action, Category, Diagnosis, Scope, Stage

_DETAIL_LIMIT = 300
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\xa0\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class _Trouble:
    action: Action
    category: Category
    scope: Scope
    code: int
    status: str
    message: str


_UNKNOWN_TROUBLE = _Trouble(
    Action.DEFER,
    Category.OTHER,
    Scope.MESSAGE,
    0,
    "4.0.0",
    "The message could not be sent just now.",
)


def _passing(
    category: Category, status: str, message: str, scope: Scope = Scope.DESTINATION
) -> _Trouble:
    return _Trouble(Action.DEFER, category, scope, 0, status, message)


def _final(
    category: Category, scope: Scope, code: int, status: str, message: str
) -> _Trouble:
    return _Trouble(Action.REJECT, category, scope, code, status, message)


_KINDS: Mapping[str, _Trouble] = {
    "connection-refused": _passing(
        Category.NETWORK, "4.4.1", "The other mail server does not accept connections."
    ),
    "timeout": _passing(
        Category.NETWORK, "4.4.2", "The other mail server did not answer in time."
    ),
    "connection-lost": _passing(
        Category.NETWORK, "4.4.2", "The other mail server closed the connection early."
    ),
    "lost-after-dot": _passing(
        Category.NETWORK,
        "4.4.2",
        "The message was sent, but the connection broke before the other side said"
        " whether it took it.",
        Scope.MESSAGE,
    ),
    "no-route": _passing(
        Category.NETWORK, "4.4.1", "The network has no way to the other mail server."
    ),
    "dns-failure": _passing(
        Category.DNS, "4.4.3", "The DNS could not say where this mail has to go."
    ),
    "no-such-domain": _final(
        Category.DNS, Scope.RECIPIENT, 550, "5.1.2", "There is no domain of that name."
    ),
    # RFC 7505 4
    "null-mx": _final(
        Category.RECIPIENT,
        Scope.RECIPIENT,
        556,
        "5.1.10",
        "The domain says in the DNS that it takes no mail.",
    ),
    "no-usable-exchanger": _final(
        Category.DNS,
        Scope.RECIPIENT,
        550,
        "5.4.4",
        "None of the domain's mail exchangers has an address that can be used.",
    ),
    "loop": _final(
        Category.CONFIG,
        Scope.RECIPIENT,
        554,
        "5.4.6",
        "The mail for this domain would come back to this server for ever.",
    ),
    "tls-failed": _passing(
        Category.TLS, "4.7.5", "The encrypted connection could not be made or trusted."
    ),
    "tls-required": _passing(
        Category.TLS,
        "4.7.4",
        "Encryption is required for this mail, and the other side does not offer it.",
    ),
    # RFC 8689 4.2.1
    "requiretls": _final(
        Category.TLS,
        Scope.MESSAGE,
        550,
        "5.7.30",
        "The message asks for TLS all the way, and the next server cannot promise it.",
    ),
    "protocol": _passing(
        Category.PROTOCOL, "4.5.0", "The other mail server broke the rules of SMTP."
    ),
    "size": _final(
        Category.MESSAGE,
        Scope.MESSAGE,
        552,
        "5.3.4",
        "The message is larger than the other side takes.",
    ),
    "8bit": _final(
        Category.MESSAGE,
        Scope.MESSAGE,
        554,
        "5.6.3",
        "The other side takes 7-bit content only, and this message must not be changed"
        " on its way.",
    ),
    # RFC 6531 3.4, 3.7.4.2
    "smtputf8": _final(
        Category.MESSAGE,
        Scope.MESSAGE,
        553,
        "5.6.7",
        "An address of this message has letters that the other side cannot take.",
    ),
    "smtputf8-header": _final(
        Category.MESSAGE,
        Scope.MESSAGE,
        550,
        "5.6.9",
        "A header field of this message has letters that the other side cannot take.",
    ),
    "expired": _final(
        Category.NETWORK,
        Scope.RECIPIENT,
        0,
        "5.4.7",
        "The message could not be delivered in the time allowed.",
    ),
    "interrupted": _passing(
        Category.OTHER,
        "4.3.2",
        "The attempt was cut short because this server is stopping.",
        Scope.MESSAGE,
    ),
}

KINDS = frozenset(_KINDS)


def diagnose(kind: str, detail: str, stage: Stage) -> Diagnosis:
    """Say what a failure means; `detail` (a host, an error) is added to its sentence.

    A kind that is not known is tried again: our own fault is no refusal (P4).
    """
    found = _KINDS.get(kind, _UNKNOWN_TROUBLE)
    status = found.status
    if kind == "timeout" and stage is Stage.CONNECT:
        status = "4.4.1"
    extra = " ".join(_CONTROLS.sub(" ", detail[:_DETAIL_LIMIT]).split())
    message = f"{found.message} ({extra})" if extra else found.message
    return Diagnosis(
        found.action,
        found.category,
        found.scope,
        message,
        found.code,
        status,
        f"trouble-{kind}",
    )
