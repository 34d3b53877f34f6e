"""DKIM: the signatures a message leaves with (RFC 6376, RFC 8463).

Pure: head, body hash, keys and time in, header fields out. Both canonicalizations are
relaxed. The body is hashed as it is read, so that a large one is never held whole.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import Field, addresses, fields

# RFC 6376 5.4.1, and what readers act on
_SIGNED = (
    "from sender reply-to subject date message-id to cc mime-version content-type"
    " content-transfer-encoding content-id content-description in-reply-to references"
    " resent-date resent-from resent-sender resent-to resent-cc resent-message-id"
    " list-id list-help list-unsubscribe list-unsubscribe-post list-subscribe"
    " list-post list-owner list-archive auto-submitted"
)
SIGNED = frozenset(_SIGNED.split())
# Named once more than they are there: one added on the way breaks the signature (8.15)
OVERSIGNED = ("from",)

_LEAST_BITS = 1024
_LINE = 72
_BLANKS = re.compile(rb"[ \t]{2,}|\t")
_EMPTY = b"\r\n" * 512


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, for whom it signs, and where its public half is published.

    `lifetime` in seconds makes an x= tag; 0 makes none.
    """

    domain: str
    selector: str
    private: RSAPrivateKey | Ed25519PrivateKey
    lifetime: float = 0.0

    @property
    def algorithm(self) -> str:
        """The value of the a= tag."""
        is_rsa = isinstance(self.private, RSAPrivateKey)
        return "rsa-sha256" if is_rsa else "ed25519-sha256"

    def sign(self, octets: bytes) -> bytes:
        """Sign; Ed25519 signs the digest, not the octets (RFC 8463 3)."""
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(octets, PKCS1v15(), SHA256())
        return self.private.sign(_digest(octets))


def signing_key(
    domain: str, selector: str, pem: bytes, lifetime: float = 0.0
) -> SigningKey:
    """Read a key from its PEM text; raises ValueError that says what is wrong."""
    try:
        private = load_pem_private_key(pem, None)
    except TypeError:
        raise ValueError("the key has a password; write it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("it holds no private key in PEM form") from None
    if isinstance(private, RSAPrivateKey):
        if private.key_size < _LEAST_BITS:
            what = f"an RSA key of {private.key_size} bits is too short"
            raise ValueError(f"{what}; make one of 2048")
    elif not isinstance(private, Ed25519PrivateKey):
        raise ValueError("DKIM knows RSA and Ed25519 keys only")  # noqa: TRY004 - a file's fault
    return SigningKey(Mailbox("", domain).key[1], selector, private, lifetime)


def record(key: SigningKey) -> str:
    """The text of the TXT record that publishes a key (RFC 6376 3.6.1, RFC 8463 4)."""
    public = key.private.public_key()
    if isinstance(key.private, RSAPrivateKey):
        kind, octets = "rsa", _public(public, PublicFormat.SubjectPublicKeyInfo)
    else:
        kind, octets = "ed25519", _public(public, PublicFormat.Raw)
    return f"v=DKIM1; k={kind}; p={b64encode(octets).decode('ascii')}"


def _public(key: RSAPublicKey | Ed25519PublicKey, form: PublicFormat) -> bytes:
    encoding = Encoding.Raw if form is PublicFormat.Raw else Encoding.DER
    return key.public_bytes(encoding, form)


def keys_for(head: bytes, keys: Iterable[SigningKey]) -> tuple[SigningKey, ...]:
    """The keys whose domain is that of an author in From."""
    known = tuple(keys)
    domains = _author_domains(head) if known else frozenset()
    return tuple(key for key in known if key.domain in domains)


def _author_domains(head: bytes) -> frozenset[str]:
    try:
        listed = [
            one
            for field in fields(head)
            if field.has_name("from")
            for one in addresses(field).mailboxes
        ]
    except SyntaxFault:
        return frozenset()
    return frozenset(one.key[1] for one in listed)


# The body


class BodyHash:
    """The digest of a body in relaxed form (RFC 6376 3.4.4), fed in any pieces."""

    def __init__(self) -> None:
        self._hash = Hash(SHA256())
        self._line = b""  # the last line so far, its end not yet seen
        self._empty = 0  # line ends that count only if something follows
        self._any = False

    def update(self, piece: bytes) -> None:
        """Take more of the body."""
        end = piece.rfind(b"\r\n")
        # a CRLF may be cut in two
        if end < 0 and self._line.endswith(b"\r") and piece.startswith(b"\n"):
            piece, end = self._line + piece, len(self._line) - 1
            self._line = b""
        if end < 0:
            self._line += piece
            return
        lines, self._line = self._line + piece[: end + 2], piece[end + 2 :]
        self._take(lines)

    def digest(self) -> bytes:
        """End; a body always ends in CRLF, an empty one is nothing at all."""
        if self._line:
            self._take(self._line + b"\r\n")
        if self._any:
            self._hash.update(b"\r\n")
        return self._hash.finalize()

    def _take(self, lines: bytes) -> None:
        if b"  " in lines or b"\t" in lines:
            lines = _BLANKS.sub(b" ", lines)
        if b" \r\n" in lines:
            lines = lines.replace(b" \r\n", b"\r\n")
        text = lines.rstrip(b"\r\n")
        ends = (len(lines) - len(text)) // 2
        if not text:
            self._empty += ends
            return
        while self._empty:
            count = min(self._empty, len(_EMPTY) // 2)
            self._hash.update(_EMPTY[: 2 * count])
            self._empty -= count
        self._hash.update(text)
        self._any = True
        self._empty = ends


# The header section


def signed(
    head: bytes, body_hash: bytes, keys: Sequence[SigningKey], now: float
) -> bytes:
    """The head with a signature of each key before it; raises SyntaxFault.

    Signatures that are there already stay as they are, and are not signed.
    """
    chosen = _chosen(fields(head))
    octets = b"".join(_relaxed(field.raw) for field in chosen)
    names = [field.name.lower() for field in chosen] + list(OVERSIGNED)
    bh = b64encode(body_hash).decode("ascii")
    return b"".join(_signature(key, names, octets, bh, now) for key in keys) + head


def _chosen(parts: Sequence[Field]) -> list[Field]:
    """The fields to sign; of those with one name the last comes first (5.4.2)."""
    return [field for field in reversed(parts) if field.name.lower() in SIGNED]


def _signature(
    key: SigningKey, names: Sequence[str], octets: bytes, bh: str, now: float
) -> bytes:
    """One DKIM-Signature field; what is signed ends with itself, its b= empty."""
    tags = f"t={int(now)};"
    if key.lifetime:
        tags += f" x={int(now + key.lifetime)};"
    head = (
        f"DKIM-Signature: v=1; a={key.algorithm}; c=relaxed/relaxed;\r\n"
        f"\td={key.domain};\r\n\ts={key.selector}; {tags}\r\n"
        f"\th={_folded_names(names)};\r\n\tbh={bh};\r\n\tb="
    ).encode("ascii")
    own = _relaxed(head + b"\r\n").removesuffix(b"\r\n")
    written = b64encode(key.sign(octets + own))
    return head + b"\r\n\t".join(_pieces(written)) + b"\r\n"


def _folded_names(names: Sequence[str]) -> str:
    lines, line = [], ""
    for name in names:
        if line and len(line) + len(name) > _LINE - 4:
            lines.append(line)
            line = ""
        line += name + ":"
    return "\r\n\t".join([*lines, line]).removesuffix(":")


def _pieces(text: bytes) -> Iterator[bytes]:
    return (text[at : at + _LINE] for at in range(0, len(text), _LINE))


def _relaxed(raw: bytes) -> bytes:
    """A field in relaxed form (RFC 6376 3.4.2)."""
    name, _, value = raw.partition(b":")
    text = _BLANKS.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return b"%s:%s\r\n" % (name.rstrip(b" \t").lower(), text)


def _digest(octets: bytes) -> bytes:
    state = Hash(SHA256())
    state.update(octets)
    return state.finalize()
