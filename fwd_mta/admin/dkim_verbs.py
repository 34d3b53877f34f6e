"""`fwdmta dkim new`: a key, the record that publishes it, the lines that use it."""

import os
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from fwd_mta.admin.command import DONE, NO, Options, Surroundings, complain, print_lines
from fwd_mta.kinds import DOMAIN, Wrong
from fwd_mta.rules.signing import SigningKey, record

ALGORITHMS = ("rsa", "ed25519")
_BITS = 2048
_STRING = 200  # one string of a TXT record has 255 octets at most


def new(options: Options, world: Surroundings) -> int:
    """`dkim new`: make a key in a new file, and say what to publish and to write."""
    del world
    try:
        domain = DOMAIN.read(options.domain)
        selector = DOMAIN.read(options.selector)
    except Wrong as wrong:
        return complain(NO, f"{wrong}; allowed: {DOMAIN.allowed}")
    path = os.path.abspath(options.out or f"{domain}.{selector}.pem")
    private: SigningKey
    if options.algorithm == "rsa":
        private = SigningKey(domain, selector, generate_private_key(65537, _BITS))
    else:
        private = SigningKey(domain, selector, Ed25519PrivateKey.generate())
    try:
        _write(path, private)
    except FileExistsError:
        return complain(NO, f"{path} exists; a key is never written over")
    except OSError as error:
        return complain(NO, f"{path} cannot be written: {error.strerror}")
    print_lines(_advice(private, path))
    return DONE


def _write(path: str, key: SigningKey) -> None:
    """Write the private key for its owner alone, into a file that is new."""
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:  # noqa: TID251 - the command's own file
        file.write(pem)


def _advice(key: SigningKey, path: str) -> Iterator[str]:
    text = record(key)
    strings = (text[at : at + _STRING] for at in range(0, len(text), _STRING))
    yield f"The key is in {path}; let only the server's user read it."
    yield "Publish this record, and wait until it can be seen:"
    yield ""
    words = " ".join(f'"{one}"' for one in strings)
    yield f"{key.selector}._domainkey.{key.domain}. IN TXT ( {words} )"
    yield ""
    yield "Then write into fwdmta.toml, and reload:"
    yield ""
    yield "[[dkim]]"
    yield f'domain = "{key.domain}"'
    yield f'selector = "{key.selector}"'
    yield f'private_key = "{path}"'
