"""What follows from the scanners' reports."""

from itertools import permutations

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.entry import Category
from fwd_mta.mail.header import join
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.scan import ScanReport, Verdict
from fwd_mta.rules.verdicts import judge, line

VIRUS = ScanReport("clamd", Verdict.REJECT, "Win.Test", Category.VIRUS)
SPAM = ScanReport("rspamd", Verdict.REJECT, "GTUBE", Category.SPAM, 15.0)
POLICY = ScanReport("milter", Verdict.REJECT)
LATER = ScanReport("rspamd", Verdict.DEFER, "come again")
BROKEN = ScanReport("clamd", Verdict.FAILED, note="connection refused")
HELD = ScanReport("clamd", Verdict.QUARANTINE, "PUA")
TAGGED = ScanReport("rspamd", Verdict.TAG, fields=(("X-Spam-Flag", "YES"),))
FINE = ScanReport("clamd", Verdict.ACCEPT)


class JudgeTests(SynchronousTestCase):
    """`judge` weighs reports."""

    def test_replies(self) -> None:
        """Each verdict has its reply, and each kind its words."""
        table = (
            ((), None),
            ((FINE,), None),
            ((HELD, TAGGED), None),
            ((VIRUS,), "554 5.7.1 Malware found: Win.Test"),
            ((SPAM,), "550 5.7.1 Message looks like spam: GTUBE"),
            ((POLICY,), "550 5.7.1 Message refused by milter"),
            ((LATER,), "451 4.7.1 come again"),
            ((BROKEN,), "451 4.7.1 The message could not be checked, try again later"),
        )
        for reports, expected in table:
            reply = judge(reports).reply
            self.assertEqual(str(reply) if reply else None, expected)

    def test_gravest_wins(self) -> None:
        """In whatever order they come, the gravest verdict decides."""
        order = (VIRUS, LATER, BROKEN, HELD, TAGGED, FINE)
        for end in range(1, len(order)):
            for reports in permutations(order[end - 1 : end + 2]):
                expected = judge((order[end - 1],))
                self.assertEqual(judge(reports).reply, expected.reply)

    def test_own_words(self) -> None:
        """A scanner's own reply is given as it is."""
        reply = Reply(552, "3.4", "Too big")
        report = ScanReport("milter", Verdict.REJECT, reply=reply)
        self.assertEqual(judge((report,)).reply, reply)

    def test_lenient(self) -> None:
        """With on_error "accept" a broken scanner passes, but only a broken one."""
        outcome = judge((BROKEN, FINE), "accept")
        self.assertIsNone(outcome.reply)
        self.assertEqual(join(outcome.fields), b"X-Fwdmta-Unchecked: clamd\r\n")
        for grave in (VIRUS, LATER):
            self.assertIsNotNone(judge((BROKEN, grave), "accept").reply)

    def test_held_and_tagged(self) -> None:
        """All reasons to hold and all fields add up."""
        outcome = judge((HELD, TAGGED, HELD))
        self.assertEqual(outcome.held, "clamd: PUA; clamd: PUA")
        self.assertEqual(join(outcome.fields), b"X-Spam-Flag: YES\r\n")

    def test_hostile_scanner(self) -> None:
        """Nothing a scanner says breaks out of a reply, a header field or a line."""
        evil = "a\r\nBcc: x\r\n.\r\n250 ok\x00" + "y" * 5000
        fields = ((evil, "x"), ("X:", "x"), ("", "x"), ("X-Fine", evil))
        for verdict in Verdict:
            report = ScanReport("s", verdict, evil, note=evil, fields=fields)
            outcome = judge((report,))
            text = outcome.reply.text if outcome.reply else ""
            self.assertNotIn("\n", text)
            self.assertLess(len(text), 500)
            for field in outcome.fields:
                self.assertEqual(field.name, "X-Fine")
                ends = field.raw.split(b"\r\n")[1:-1]
                self.assertTrue(all(more.startswith(b" ") for more in ends))
            self.assertNotIn("\n", "".join(outcome.checks))
            self.assertNotIn("\n", outcome.held or "")

    def test_line(self) -> None:
        """A line of the timeline has verdict, score, words and milliseconds."""
        report = ScanReport(
            "rspamd", Verdict.TAG, "SPAM", score=7.25, note="BAD_X", seconds=0.0314
        )
        self.assertEqual(line(report), "rspamd tag 7.2: SPAM; BAD_X (31 ms)")
        self.assertEqual(line(FINE), "clamd accept (0 ms)")
