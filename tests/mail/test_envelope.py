"""Tests of `fwd_mta.mail.envelope`: what a recipient wants to be told."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Envelope, Notify, Recipient

JOE = Mailbox("joe", "example.com")


class RecipientTests(SynchronousTestCase):
    """NOTIFY of RFC 3461."""

    def test_unasked(self) -> None:
        """Who did not ask is told of failure and delay, not of success."""
        wanted = {notify for notify in Notify if Recipient(JOE).wants(notify)}
        self.assertEqual(wanted, {Notify.FAILURE, Notify.DELAY})

    def test_never(self) -> None:
        """NEVER means no notice of any kind."""
        recipient = Recipient(JOE, notify=(Notify.NEVER,))
        for notify in (Notify.SUCCESS, Notify.FAILURE, Notify.DELAY):
            self.assertFalse(recipient.wants(notify))

    def test_asked(self) -> None:
        """What was asked for is what comes."""
        recipient = Recipient(JOE, notify=(Notify.SUCCESS,))
        self.assertTrue(recipient.wants(Notify.SUCCESS))
        self.assertFalse(recipient.wants(Notify.FAILURE))


class EnvelopeTests(SynchronousTestCase):
    """Envelopes as values."""

    def test_equal(self) -> None:
        """Two envelopes of the same words are the same, and usable as keys."""
        one, two = Envelope(None, (Recipient(JOE),)), Envelope(None, (Recipient(JOE),))
        self.assertEqual({one}, {two})
