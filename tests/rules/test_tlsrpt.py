"""Tests of TLS reports: what domains ask for, and what they are told."""

import gzip
import json
from email import message_from_bytes

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.rules import tlsrpt
from fwd_mta.rules.dane import Tlsa
from fwd_mta.rules.sts import Mode, Policy
from fwd_mta.rules.tlsrpt import Applied, Count, Failure, Kind, Report, Reporter

WHO = Reporter("tls@us.example", "Us", "postmaster@us.example")
POLICY = Policy(Mode.ENFORCE, 86_400, ("mx.example.net", "*.mail.example.net"))
REPORT = Report("example.net", 20_000)  # 2024-10-04


class DestinationTests(SynchronousTestCase):
    """The record at _smtp._tls."""

    def test_where_reports_go(self) -> None:
        """Mail addresses and HTTPS, several of them; nothing else."""
        for record, wanted in (
            ("v=TLSRPTv1; rua=mailto:a@example.net", ("mailto:a@example.net",)),
            ("v=TLSRPTv1;rua=mailto:a@b.example;", ("mailto:a@b.example",)),
            (
                "v=TLSRPTv1; rua=mailto:a@b.example , https://r.example/v1",
                ("mailto:a@b.example", "https://r.example/v1"),
            ),
            ("v=TLSRPTv1; x=y; rua=https://r.example", ("https://r.example",)),
            ("v=TLSRPTv1; rua=http://r.example", ()),
            ("v=TLSRPTv1; rua=mailto:", ()),
            ("v=TLSRPTv1; rua=ftp://r.example,", ()),
            ("v=TLSRPTv1", ()),
            ("v=TLSRPTv2; rua=mailto:a@example.net", ()),
            ("rua=mailto:a@example.net; v=TLSRPTv1", ()),
            ("", ()),
        ):
            self.assertEqual(tlsrpt.destinations([record]), wanted, record)

    def test_exactly_one_record(self) -> None:
        """Two are as good as none (RFC 8460 3); others beside it do not count."""
        one = "v=TLSRPTv1; rua=mailto:a@example.net"
        self.assertEqual(tlsrpt.destinations([one, one]), ())
        self.assertEqual(len(tlsrpt.destinations(["v=spf1 -all", one])), 1)
        self.assertEqual(tlsrpt.destinations([]), ())

    def test_a_bounded_number(self) -> None:
        """Nobody has us send a thousand reports."""
        many = ",".join(f"mailto:a{number}@example.net" for number in range(1000))
        self.assertEqual(len(tlsrpt.destinations([f"v=TLSRPTv1; rua={many}"])), 10)


class CountTests(SynchronousTestCase):
    """What is counted."""

    def test_what_applies(self) -> None:
        """DANE by its records, MTA-STS by its file, else nothing was found."""
        records = (Tlsa(3, 1, 1, b"\x01\xff"),)
        found = tlsrpt.by_dane("MX.example.net", records)
        self.assertEqual(found.kind, Kind.TLSA)
        self.assertEqual(found.strings, ("3 1 1 01ff",))
        self.assertEqual(found.domain, "mx.example.net")
        found = tlsrpt.applied("example.net", POLICY)
        self.assertEqual(found.kind, Kind.STS)
        self.assertEqual(
            found.strings,
            (
                "version: STSv1",
                "mode: enforce",
                "mx: mx.example.net",
                "mx: *.mail.example.net",
                "max_age: 86400",
            ),
        )
        none = Policy(Mode.NONE, 1)
        for policy in (None, none):
            self.assertEqual(tlsrpt.applied("example.net", policy).kind, Kind.NONE)

    def test_certificates(self) -> None:
        """Our words on a certificate, and the result types of RFC 8460 4.3.1."""
        for fault, wanted in (
            ("the certificate is not for mx.example.net", "certificate-host-mismatch"),
            ("its certificate is for another name", "certificate-host-mismatch"),
            ("cert has expired", "certificate-expired"),
            ("self signed cert", "certificate-not-trusted"),
            ("unable to get issuer cert locally", "certificate-not-trusted"),
            ("no TLSA record fits its certificate", "validation-failure"),
        ):
            self.assertEqual(tlsrpt.result_of_fault(fault), wanted, fault)

    def test_bounded_detail(self) -> None:
        """A host that fails in a thousand ways is told about a hundred of them."""
        count = Count()
        for number in range(1000):
            count.add(Failure("validation-failure", reason=f"{number}" * 100))
        self.assertEqual(count.bad.total(), 1000)
        self.assertLessEqual(len(count.bad), 101)
        self.assertTrue(all(len(one.reason) <= 200 for one in count.bad))


class ReportTests(SynchronousTestCase):
    """The report, as octets."""

    def counts(self) -> dict[Applied, Count]:
        """Two policies, some good and some bad sessions."""
        sts, none = Count(), Count()
        sts.add(None, 5326)
        failure = Failure(
            "certificate-expired", "mx.example.net", "192.0.2.1", "198.51.100.1", "old"
        )
        sts.add(failure, 100)
        sts.add(Failure("starttls-not-supported", "mx.example.net"), 3)
        none.add(None)
        return {
            tlsrpt.applied("example.net", POLICY): sts,
            tlsrpt.applied("example.net", None): none,
        }

    def test_the_schema(self) -> None:
        """Every field as RFC 8460 4.4 names it, and no other."""
        told = json.loads(tlsrpt.as_json(REPORT, self.counts(), WHO))
        self.assertEqual(
            told,
            {
                "organization-name": "Us",
                "date-range": {
                    "start-datetime": "2024-10-04T00:00:00Z",
                    "end-datetime": "2024-10-04T23:59:59Z",
                },
                "contact-info": "postmaster@us.example",
                "report-id": "2024-10-04.example.net@us.example",
                "policies": [
                    {
                        "policy": {
                            "policy-type": "sts",
                            "policy-string": [
                                "version: STSv1",
                                "mode: enforce",
                                "mx: mx.example.net",
                                "mx: *.mail.example.net",
                                "max_age: 86400",
                            ],
                            "policy-domain": "example.net",
                            "mx-host": ["mx.example.net", "*.mail.example.net"],
                        },
                        "summary": {
                            "total-successful-session-count": 5326,
                            "total-failure-session-count": 103,
                        },
                        "failure-details": [
                            {
                                "result-type": "certificate-expired",
                                "sending-mta-ip": "198.51.100.1",
                                "receiving-mx-hostname": "mx.example.net",
                                "receiving-ip": "192.0.2.1",
                                "failure-reason-code": "old",
                                "failed-session-count": 100,
                            },
                            {
                                "result-type": "starttls-not-supported",
                                "receiving-mx-hostname": "mx.example.net",
                                "failed-session-count": 3,
                            },
                        ],
                    },
                    {
                        "policy": {
                            "policy-type": "no-policy-found",
                            "policy-domain": "example.net",
                        },
                        "summary": {
                            "total-successful-session-count": 1,
                            "total-failure-session-count": 0,
                        },
                    },
                ],
            },
        )

    def test_the_mail(self) -> None:
        """Read by another's parser: fields, parts, file name, and the report itself."""
        octets = tlsrpt.packed(tlsrpt.as_json(REPORT, self.counts(), WHO))
        head, body = tlsrpt.message(
            REPORT, octets, "r@example.net", WHO, 0.0, "b0undary"
        )
        read = message_from_bytes(head + b"\r\n" + body)
        for name, wanted in (
            ("From", "Us <tls@us.example>"),
            ("To", "<r@example.net>"),
            ("TLS-Report-Domain", "example.net"),
            ("TLS-Report-Submitter", "us.example"),
            ("TLS-Required", "No"),
        ):
            self.assertEqual(read[name], wanted)
        self.assertRegex(
            " ".join(str(read["Subject"]).split()),
            r"Report Domain: example.net Submitter: us.example Report-ID: <2024-10-",
        )
        self.assertEqual(read.get_content_type(), "multipart/report")
        self.assertEqual(read.get_param("report-type"), "tlsrpt")
        text, report = list(read.walk())[1:]
        self.assertIn("2024-10-04", text.get_payload())
        kind = report.get_content_type()
        self.assertEqual(kind, "application/tlsrpt+gzip")
        self.assertEqual(
            report.get_filename(),
            "us.example!example.net!1728000000!1728086399.json.gz",
        )
        packed = report.get_payload(decode=True)
        assert isinstance(packed, bytes)
        self.assertEqual(json.loads(gzip.decompress(packed))["organization-name"], "Us")
        lines = (head + b"\r\n" + body).split(b"\r\n")
        self.assertLessEqual(max(map(len, lines)), 998)
        self.assertTrue((head + body).isascii())

    def test_an_odd_organization(self) -> None:
        """A name that would not fit into From stays in the report alone."""
        odd = Reporter("tls@us.example", 'Ä, "B" <c>', "d")
        head, _ = tlsrpt.message(REPORT, b"", "r@example.net", odd, 0.0, "b")
        self.assertIn(b"From: <tls@us.example>\r\n", head)
