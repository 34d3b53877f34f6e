"""The authority of demo and tests, judged as clients judge it."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.net.tls import certificate_names, server_context
from fwd_mta.world.certificates import Authority

NOW = 1_800_000_000.0


class AuthorityTests(SynchronousTestCase):
    """Certificates for one run."""

    def test_usable(self) -> None:
        """A server can use what is issued, and the chain holds leaf and authority."""
        authority = Authority(NOW)
        chain, key = authority.issue("localhost", "127.0.0.1", "::1")
        server_context(chain, key)
        self.assertTrue(chain.endswith(authority.pem))
        self.assertEqual(list(certificate_names(chain)), ["localhost"])

    def test_strict(self) -> None:
        """Python's strictest verification takes the chain, for name and address."""
        authority = Authority(datetime.now(UTC).timestamp())
        for name in ("localhost", "127.0.0.1"):
            self.assertTrue(self._handshake(authority, name))

    def _handshake(self, authority: Authority, name: str) -> bool:
        """Shake hands in memory; raises SSLError when the client does not trust."""
        folder = Path(self.mktemp())
        folder.mkdir()
        chain, key = authority.issue("localhost", "127.0.0.1")
        (folder / "chain").write_bytes(chain + key)
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(folder / "chain")
        theirs = ssl.create_default_context(cadata=authority.pem.decode())
        theirs.verify_flags |= ssl.VERIFY_X509_STRICT
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = theirs.wrap_bio(down, up, server_hostname=name)
        server = ours.wrap_bio(up, down, server_side=True)
        for side in (client, server, client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
        return client.version() == server.version() == "TLSv1.3"

    def test_stranger(self) -> None:
        """What another authority issued is not trusted."""
        now = datetime.now(UTC).timestamp()
        authority, stranger = Authority(now), Authority(now)
        stranger.pem = authority.pem
        with self.assertRaises(ssl.SSLError):
            self._handshake(stranger, "localhost")

    def test_span(self) -> None:
        """A certificate is good now, a little before, and for a month."""
        authority = Authority(NOW)
        leaf = x509.load_pem_x509_certificate(authority.issue("localhost")[0])
        before = leaf.not_valid_before_utc.timestamp()
        after = leaf.not_valid_after_utc.timestamp()
        self.assertTrue(before < NOW < after)
        self.assertEqual(round((after - before) / 86_400), 30)
