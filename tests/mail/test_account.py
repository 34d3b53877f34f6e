"""Tests of `fwd_mta.mail.account`: who may send as whom."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.account import Account
from fwd_mta.mail.address import parse_mailbox


def may(account: Account, text: str) -> bool:
    """Whether the account may send as the address."""
    return account.may_send_as(parse_mailbox(text))


class SendAsTests(SynchronousTestCase):
    """Ownership of addresses."""

    def test_own_login(self) -> None:
        """Without send_as an account owns its login, in any case of letters."""
        account = Account("you@example.com")
        self.assertTrue(may(account, "YOU@Example.COM"))
        self.assertTrue(may(account, "you+tag@example.com"))
        self.assertTrue(may(account, '"you"@example.com'))

    def test_others(self) -> None:
        """Nobody owns a neighbour, another domain, or a part of a name."""
        account = Account("you@example.com")
        for text in (
            "me@example.com",
            "you@example.org",
            "you@sub.example.com",
            "yo@example.com",
            "youtag@example.com",
            "from@example.com",
            "+you@example.com",
            "Postmaster",
        ):
            self.assertFalse(may(account, text), text)

    def test_send_as_replaces_login(self) -> None:
        """With send_as, only what is written there counts."""
        account = Account("you@example.com", send_as=("a@x.example", "*@y.example"))
        self.assertTrue(may(account, "a@x.example"))
        self.assertTrue(may(account, "anyone@y.example"))
        self.assertFalse(may(account, "you@example.com"))
        self.assertFalse(may(account, "b@x.example"))

    def test_domain_wide(self) -> None:
        """A domain-wide login owns its domain, but not what lies below it."""
        account = Account("*@example.com")
        self.assertTrue(may(account, "app@example.com"))
        self.assertFalse(may(account, "app@sub.example.com"))

    def test_international_domain(self) -> None:
        """A domain is the same as U-label and as A-label."""
        account = Account("you@bücher.example")
        self.assertTrue(may(account, "you@xn--bcher-kva.example"))
        self.assertTrue(may(Account("you@xn--bcher-kva.example"), "you@BÜCHER.example"))

    def test_tagged_pattern(self) -> None:
        """A pattern with a tag owns that tag and not the address without it."""
        account = Account("you+a@example.com")
        self.assertTrue(may(account, "you+a@example.com"))
        self.assertFalse(may(account, "you@example.com"))
