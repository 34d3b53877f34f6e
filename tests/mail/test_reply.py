"""Tests of `fwd_mta.mail.reply` and the replies of `fwd_mta.mail.errors`."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail import errors
from fwd_mta.mail.reply import Reply


class ReplyTests(SynchronousTestCase):
    """Replies as values."""

    def test_status(self) -> None:
        """The enhanced code takes its class from the code."""
        self.assertEqual(Reply(550, "7.1", "no").status, "5.7.1")
        self.assertEqual(Reply(451, "7.1", "later").status, "4.7.1")
        self.assertIsNone(Reply(354, None, "go").status)

    def test_classes(self) -> None:
        """A reply is positive, temporary or permanent by its first digit."""
        for code, facts in {
            250: (True, False, False),
            354: (False, False, False),
            421: (False, True, False),
            554: (False, False, True),
        }.items():
            reply = Reply(code, None, "x")
            found = (reply.is_positive, reply.is_temporary, reply.is_permanent)
            self.assertEqual(found, facts)

    def test_text(self) -> None:
        """A reply of several lines is shown on one."""
        self.assertEqual(
            str(Reply(550, "1.1", "no\nsuch user")), "550 5.1.1 no such user"
        )
        self.assertEqual(str(Reply(250, None, "")), "250")

    def test_our_faults_are_temporary(self) -> None:
        """Only the other side's words make a permanent reply; our own faults never."""
        self.assertTrue(errors.SyntaxFault.reply.is_permanent)
        ours: list[type[errors.MailError]] = [errors.MailError]
        ours += errors.MailError.__subclasses__()
        ours += errors.StoreError.__subclasses__()
        for fault in ours:
            if fault is not errors.SyntaxFault:
                self.assertTrue(fault.reply.is_temporary, fault)
