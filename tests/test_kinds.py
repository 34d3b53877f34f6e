"""How one value of the configuration is read."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta import kinds
from fwd_mta.kinds import Kind, Wrong
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.route import TlsLevel

GOOD: list[tuple[Kind[Any], object, object]] = [
    (kinds.TEXT, "words", "words"),
    (kinds.YES_NO, True, True),
    (kinds.COUNT, 0, 0),
    (kinds.PORT, 65_535, 65_535),
    (kinds.duration(), "0", 0.0),
    (kinds.duration(), "30s", 30.0),
    (kinds.duration(), "5m", 300.0),
    (kinds.duration(), "4h", 14_400.0),
    (kinds.duration(), "30d", 2_592_000.0),
    (kinds.size(), "50MB", 50_000_000),
    (kinds.size(), "64KiB", 65_536),
    (kinds.size(), "1GB", 10**9),
    (kinds.size(), "1GiB", 2**30),
    (kinds.size(), "7", 7),
    (kinds.choice("a", "b"), "b", "b"),
    (kinds.choice(TlsLevel), "may", TlsLevel.MAY),
    (kinds.many(kinds.COUNT), [1, 2], (1, 2)),
    (kinds.many(kinds.COUNT), [], ()),
    (kinds.DOMAIN, "Example.COM.", "example.com"),
    (kinds.HOSTNAME, "mail.example.com", "mail.example.com"),
    (kinds.MAILBOX, "", None),
    (kinds.MAILBOX, "you@example.com", Mailbox("you", "example.com")),
    (kinds.PATH, "/a/b/", "/a/b"),
    (kinds.PATH, "/", "/"),
    (kinds.IP, "2001:DB8::1", "2001:db8::1"),
    (kinds.LISTEN_ADDRESS, "0.0.0.0:465", "0.0.0.0:465"),
    (kinds.LISTEN_ADDRESS, "[::]:465", "[::]:465"),
    (kinds.LISTEN_ADDRESS, "unix:/run/s", "unix:/run/s"),
    (kinds.LISTEN_ADDRESS, "systemd:submissions", "systemd:submissions"),
    (kinds.NAME_SERVER, "127.0.0.1", ("127.0.0.1", 53)),
    (kinds.NAME_SERVER, "127.0.0.1:5353", ("127.0.0.1", 5353)),
    (kinds.NAME_SERVER, "::1", ("::1", 53)),
    (kinds.NAME_SERVER, "[::1]:5353", ("::1", 5353)),
    (kinds.socket("unix", "tcp"), "tcp:localhost:783", "tcp:localhost:783"),
    (kinds.socket("unix"), "unix:/run/s", "unix:/run/s"),
    (kinds.URL, "https://example.com/help", "https://example.com/help"),
    (kinds.TRANSPORT_KEY, "*", "*"),
    (kinds.TRANSPORT_KEY, ".Lists.example", ".lists.example"),
    (kinds.TRANSPORT, "mx", "mx"),
    (kinds.TRANSPORT, "[10.1.2.3]:2525", "[10.1.2.3]:2525"),
    (kinds.TRANSPORT, "lmtp:unix:/run/lmtp", "lmtp:unix:/run/lmtp"),
    (kinds.TRANSPORT, "error:5.1.1 gone", "error:5.1.1 gone"),
    (kinds.RELAYHOST, "[smtp.isp.example]:587", "[smtp.isp.example]:587"),
]

BAD: list[tuple[Kind[Any], object, str]] = [
    (kinds.TEXT, 5, "a number, not text"),
    (kinds.TEXT, " ", "is empty"),
    (kinds.TEXT, "a\x1bb", "control character"),
    (kinds.YES_NO, "yes", "not true or false"),
    (kinds.YES_NO, 1, "not true or false"),
    (kinds.COUNT, "1000", "no whole number"),
    (kinds.COUNT, 1.5, "no whole number"),
    (kinds.COUNT, True, "no whole number"),
    (kinds.COUNT, -1, "out of bounds"),
    (kinds.PORT, 65_536, "out of bounds"),
    (kinds.PORT, 0, "out of bounds"),
    (kinds.duration(), 30, "a number, not text"),
    (kinds.duration(), "30", "no duration"),
    (kinds.duration(), "5 minutes", "no duration"),
    (kinds.duration(), "-5s", "no duration"),
    (kinds.duration(), "1.5h", "no duration"),
    (kinds.duration(), "5m\n", "control character"),
    (kinds.duration(), "٣s", "no duration"),
    (kinds.duration(least=1), "0", "too short"),
    (kinds.size(), "50 MB", "no size"),
    (kinds.size(), "50mb", "no size"),
    (kinds.size(least=1000), "999", "too small"),
    (kinds.choice("a", "b"), "c", "none of the choices"),
    (kinds.choice(TlsLevel), "dane", "none of the choices"),
    (kinds.many(kinds.COUNT), 1, "not a list"),
    (kinds.many(kinds.COUNT), [1, "2"], "no whole number"),
    (kinds.DOMAIN, "exa mple", "no domain name"),
    (kinds.DOMAIN, "bücher.example", "xn--"),
    (kinds.DOMAIN, "-a.example", "no domain name"),
    (kinds.DOMAIN, "a..example", "no domain name"),
    (kinds.DOMAIN, "a." * 130, "no domain name"),
    (kinds.HOSTNAME, "192.0.2.1", "an address, not a name"),
    (kinds.MAILBOX, "postmaster@", "no mail address"),
    (kinds.IP, "localhost", "no IP address"),
    (kinds.NETWORK, "10.0.0.1/8", "no network"),
    (kinds.NETWORK, "lan", "no network"),
    (kinds.LISTEN_ADDRESS, "465", "no :port"),
    (kinds.LISTEN_ADDRESS, "0.0.0.0", "no :port"),
    (kinds.LISTEN_ADDRESS, "0.0.0.0:65536", "beyond 65535"),
    (kinds.LISTEN_ADDRESS, "localhost:25", "no IP address"),
    (kinds.LISTEN_ADDRESS, ":::465", "in brackets"),
    (kinds.LISTEN_ADDRESS, "unix:relative", "no absolute path"),
    (kinds.LISTEN_ADDRESS, "unix:/" + "x" * 200, "longer than a socket"),
    (kinds.LISTEN_ADDRESS, "systemd:", "names no socket"),
    (kinds.LISTEN_ADDRESS, "systemd:a:b", "names no socket"),
    (kinds.NAME_SERVER, "dns.example", "no :port"),
    (kinds.socket("unix"), "tcp:localhost:1", "does not begin with unix:"),
    (kinds.socket("tcp"), "tcp:localhost", "not tcp:host:port"),
    (kinds.URL, "help", "no URL"),
    (kinds.TRANSPORT_KEY, "a b", "no domain"),
    (kinds.TRANSPORT, "error:nope", "5.1.1 text"),
    (kinds.TRANSPORT, "[host", "no next hop"),
    (kinds.RELAYHOST, "mx", "no host"),
    (kinds.RELAYHOST, "discard", "no host"),
]


class KindTests(SynchronousTestCase):
    """Every kind takes what it should, and says why it takes nothing else."""

    def test_takes_what_is_right(self) -> None:
        """A right value is read into the noun that the rooms use."""
        for kind, written, read in GOOD:
            self.assertEqual(kind.read(written), read, written)

    def test_reads_networks(self) -> None:
        """Networks of both families are read."""
        networks = kinds.many(kinds.NETWORK).read(["10.0.0.0/8", "2001:db8::/32"])
        self.assertEqual(
            [str(one) for one in networks], ["10.0.0.0/8", "2001:db8::/32"]
        )

    def test_says_what_is_wrong(self) -> None:
        """A wrong value is refused in words that say what was seen."""
        for kind, written, words in BAD:
            error = self.assertRaises(Wrong, kind.read, written)
            self.assertIn(words, str(error), written)

    def test_says_what_is_allowed(self) -> None:
        """Every kind says what it takes, on one line."""
        for kind, _, _ in BAD:
            self.assertTrue(kind.allowed.isprintable() and kind.allowed)
