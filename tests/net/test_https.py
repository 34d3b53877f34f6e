"""Policies over real HTTPS, in memory: verified, bounded, never redirected."""

import time

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from typing_extensions import override

from fwd_mta.mail.errors import FetchError
from fwd_mta.net.https import HttpsPolicyHost, HttpsReportHost
from fwd_mta.net.tls import ClientTlsContext, ServerTls, server_context, tls_factory
from fwd_mta.world.certificates import Authority
from fwd_mta.world.machine import SeededEntropy
from fwd_mta.world.names import TableResolver
from fwd_mta.world.network import MemoryNetwork

AUTHORITY = Authority(time.time())  # OpenSSL judges by the real clock
STRANGER = Authority(time.time(), "nobody we know")
ADDRESS = "203.0.113.9"
NAME = "mta-sts.example.com"


class Policies(Resource):
    """A policy host that answers as it is told."""

    isLeaf = True  # noqa: N815 - Twisted's

    def __init__(self) -> None:
        super().__init__()
        self.code = 200
        self.kind = b"text/plain; charset=utf-8"
        self.text: bytes | None = b"version: STSv1\n"
        self.asked: list[tuple[bytes, bytes]] = []
        self.posted: tuple[bytes | None, bytes, bytes] | None = None

    def render_GET(self, request: HttpRequest) -> bytes | int:  # noqa: N802 - Twisted's
        """Answer."""
        host = request.getHeader(b"host") or b""
        self.asked.append((host, request.uri))
        request.setResponseCode(self.code)
        request.setHeader(b"content-type", self.kind)
        request.setHeader(b"location", b"https://elsewhere.example/")
        return NOT_DONE_YET if self.text is None else self.text

    def render_POST(self, request: HttpRequest) -> bytes:  # noqa: N802 - Twisted's
        """Take a report."""
        assert request.content is not None
        self.posted = (
            request.getHeader(b"content-type"),
            request.uri,
            request.content.read(),
        )
        request.setResponseCode(self.code)
        request.setHeader(b"location", b"https://elsewhere.example/")
        return b"x" * 100_000


class HttpsTests(SynchronousTestCase):
    """The fetch of one policy."""

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, SeededEntropy())
        self.names = {NAME: [ADDRESS]}
        self.host = HttpsPolicyHost(
            self.network,
            TableResolver(addresses=self.names),
            self.clock,
            ClientTlsContext(AUTHORITY.pem),
        )
        self.site = Policies()

    def serve(self, authority: Authority = AUTHORITY, name: str = NAME) -> None:
        """Put the policy host on the network."""
        tls = ServerTls(server_context(*authority.issue(name)))
        site = Site(self.site, reactor=self.clock)
        site.requestFactory = Request
        factory = tls_factory(site, tls, self.clock)
        self.successResultOf(self.network.listen(f"{ADDRESS}:443", factory))

    def post(self) -> Deferred[None]:
        """Hand a report over."""
        host = HttpsReportHost(
            self.network,
            TableResolver(addresses=self.names),
            self.clock,
            ClientTlsContext(AUTHORITY.pem),
        )
        work = Deferred.fromCoroutine(host.post(f"https://{NAME}/v1?a=b", b"packed"))
        self.clock.pump([0.0] * 60)
        self.clock.pump([0.05] * 20)
        self.clock.pump([0.0] * 60)
        return work

    def test_a_report(self) -> None:
        """Posted as what it is, to whoever asked, proved or not (RFC 8460 3)."""
        for authority in (AUTHORITY, STRANGER):
            self.setUp()
            self.serve(authority)
            self.site.code = 201
            self.successResultOf(self.post())
            wanted = (b"application/tlsrpt+gzip", b"/v1?a=b", b"packed")
            self.assertEqual(self.site.posted, wanted)

    def test_a_report_that_is_not_taken(self) -> None:
        """Errors and redirects; no host, an inside one."""
        for code in (301, 404, 500):
            self.setUp()
            self.serve()
            self.site.code = code
            self.failureResultOf(self.post(), FetchError)
        self.setUp()
        self.failureResultOf(self.post(), FetchError)
        self.names[NAME] = ["10.0.0.1"]
        self.failureResultOf(self.post(), FetchError)

    def fetch(self, seconds: float = 1.0) -> Deferred[str]:
        """Begin a fetch, and let time pass."""
        work = Deferred.fromCoroutine(self.host.fetch("example.com"))
        self.clock.pump([0.0] * 60)
        self.clock.pump([seconds / 20] * 20)
        self.clock.pump([0.0] * 60)
        return work

    def test_the_text(self) -> None:
        """The well-known path of the policy host, by its name."""
        self.serve()
        self.assertEqual(self.successResultOf(self.fetch()), "version: STSv1\n")
        self.assertEqual(
            self.site.asked, [(NAME.encode(), b"/.well-known/mta-sts.txt")]
        )

    def test_whom_it_does_not_believe(self) -> None:
        """An unknown authority, another name: nothing is even asked."""
        for authority, name in ((STRANGER, NAME), (AUTHORITY, "www.example.com")):
            self.setUp()
            self.serve(authority, name)
            self.failureResultOf(self.fetch(), FetchError)
            self.assertEqual(self.site.asked, [])

    def test_what_it_does_not_take(self) -> None:
        """Redirects, errors, other types, too much."""
        for code, kind, text in (
            (301, b"text/plain", b"moved"),
            (404, b"text/plain", b"no"),
            (200, b"text/html", b"<html>"),
            (200, b"text/plain", b"x" * 70_000),
        ):
            self.setUp()
            self.serve()
            self.site.code, self.site.kind, self.site.text = code, kind, text
            self.failureResultOf(self.fetch(), FetchError)
            self.assertEqual(len(self.site.asked), 1)

    def test_who_does_not_answer(self) -> None:
        """No host, no address, an inside one, silence: within a minute it is over."""
        self.failureResultOf(self.fetch(), FetchError)
        self.site.text = None
        self.serve()
        self.failureResultOf(self.fetch(61), FetchError)
        for addresses in ([], ["10.0.0.1"]):
            self.names[NAME] = addresses
            self.failureResultOf(self.fetch(), FetchError)
