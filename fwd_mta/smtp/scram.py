"""SCRAM-SHA-256 and -PLUS, the server's side (RFC 5802, 7677; tls-exporter: RFC 9266).

One exchange is one `ScramExchange`: pure, its nonce and keys are passed in. A login
that does not exist goes through the same motions with keys that nobody has.
"""

import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from fwd_mta.mail.errors import SyntaxFault

NAME = b"SCRAM-SHA-256"
PLUS = b"SCRAM-SHA-256-PLUS"
BINDING = "tls-exporter"

_KEYS = re.compile(r"SCRAM-SHA-256\$([0-9]{1,8}):([^$:]+)\$([^$:]+):([^$:]+)")
_FIRST = re.compile(
    r"(?P<flag>n|y|p=(?P<binding>[A-Za-z0-9.-]+)),(?:a=(?P<authzid>[^,\0]+))?,"
    r"(?P<bare>n=(?P<name>[^,\0]+),r=(?P<nonce>[!-+\--~]+)(?:,[A-Za-z]=[^,\0]+)*)"
)
_FINAL = re.compile(
    r"(?P<bare>c=(?P<channel>[A-Za-z0-9+/=]+),r=(?P<nonce>[!-+\--~]+)"
    r"(?:,[A-Za-z]=[^,\0]+)*),p=(?P<proof>[A-Za-z0-9+/=]+)"
)
_NAME = re.compile(r"(?:[^=]|=2C|=3D)+")


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What is stored of a password; neither it nor a way to log in follows from it."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "ScramKeys":
        """Read the form of RFC 5803; raises SyntaxFault."""
        found = _KEYS.fullmatch(text)
        try:
            salt, stored, server = (
                b64decode(found[place] if found else "!", validate=True)
                for place in (2, 3, 4)
            )
        except NotBase64:
            raise SyntaxFault("not SCRAM-SHA-256 keys as in RFC 5803") from None
        if found is None or not int(found[1]) or {len(stored), len(server)} != {32}:
            raise SyntaxFault("not SCRAM-SHA-256 keys as in RFC 5803")
        return cls(int(found[1]), salt, stored, server)


def made_up_keys(
    login: str, secret: bytes, iterations: int, salt_length: int = 16
) -> ScramKeys:
    """Keys for a login that there is not: always the same, and nobody's."""
    salt, stored, server = (
        hmac.digest(secret, f"{what} {login}".encode(), "sha256")
        for what in ("salt", "stored", "server")
    )
    return ScramKeys(iterations, salt[:salt_length], stored, server)


class ScramExchange:
    """One exchange: `first`, `challenge`, `final`; each at most once, in this order.

    `binding` is the channel's tls-exporter value when the client chose -PLUS, else
    None; `offers_plus` says that we would have had one.
    """

    def __init__(
        self, nonce: str, binding: bytes | None, *, offers_plus: bool = False
    ) -> None:
        self.login = ""
        self._nonce = nonce
        self._binding = binding
        self._offers_plus = offers_plus
        self._keys: Sequence[ScramKeys] = ()
        self._said: list[str] = []
        self._channel = b""
        self._downgraded = False

    def first(self, message: bytes) -> None:
        """Take client-first-message; raises SyntaxFault."""
        found = _FIRST.fullmatch(_text(message))
        if found is None or not _NAME.fullmatch(found["name"]):
            raise SyntaxFault("not a SCRAM client-first-message")
        if (found["binding"] is not None) != (self._binding is not None):
            raise SyntaxFault("SCRAM channel binding does not fit the mechanism")
        if found["binding"] not in {None, BINDING}:
            raise SyntaxFault(f"the SCRAM channel binding must be {BINDING}")
        self.login = _unescaped(found["name"])
        authzid = _unescaped(found["authzid"] or "")
        if authzid and authzid.lower() != self.login.lower():
            self.login = ""
        # RFC 5802 6: somebody between us took -PLUS out of our offer
        self._downgraded = found["flag"] == "y" and self._offers_plus
        self._nonce = found["nonce"] + self._nonce
        header = found[0][: -len(found["bare"])]
        self._channel = header.encode() + (self._binding or b"")
        self._said.append(found["bare"])

    def challenge(self, keys: Sequence[ScramKeys]) -> bytes:
        """Give server-first-message; all `keys` have the salt of the first."""
        self._keys = keys
        salt = b64encode(keys[0].salt).decode("ascii")
        challenge = f"r={self._nonce},s={salt},i={keys[0].iterations}"
        self._said.append(challenge)
        return challenge.encode()

    def final(self, message: bytes) -> bytes | None:
        """Take client-final-message; server-final-message, or None for a wrong proof.

        Raises SyntaxFault.
        """
        found = _FINAL.fullmatch(_text(message))
        if found is None:
            raise SyntaxFault("not a SCRAM client-final-message")
        try:
            channel = b64decode(found["channel"], validate=True)
            proof = b64decode(found["proof"], validate=True)
        except NotBase64:
            raise SyntaxFault("not base64 in a SCRAM client-final-message") from None
        signed = ",".join([*self._said, found["bare"]]).encode()
        fits = channel == self._channel and found["nonce"] == self._nonce
        proved = [keys for keys in self._keys if _proves(keys, signed, proof)]
        if not (fits and proved and self.login) or self._downgraded:
            return None
        signature = hmac.digest(proved[0].server_key, signed, "sha256")
        return b"v=" + b64encode(signature)


def _proves(keys: ScramKeys, signed: bytes, proof: bytes) -> bool:
    signature = hmac.digest(keys.stored_key, signed, "sha256")
    client_key = bytes(a ^ b for a, b in zip(signature, proof, strict=False))
    right = hmac.compare_digest(sha256(client_key).digest(), keys.stored_key)
    return right and len(proof) == len(signature)


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError:
        raise SyntaxFault("SCRAM speaks UTF-8") from None


def _unescaped(name: str) -> str:
    return name.replace("=2C", ",").replace("=3D", "=")
