"""A mail server for each test of a case: trial's or unittest's."""

from collections.abc import Mapping
from typing import Any, ClassVar

from fwd_mta.testing.server import MailServer


class MailServerMixin:
    """Put it before `TestCase`: `self.mail` is a running server, new for each test.

    `mail_configuration` holds lines of fwdmta.toml, `mail_accounts` logins and their
    passwords.
    """

    mail_configuration: ClassVar[str] = ""
    mail_accounts: ClassVar[Mapping[str, str]] = {}
    mail: MailServer

    def setUp(self) -> None:
        """Start the server; it stops when the test is over."""
        case: Any = super()
        case.setUp()
        self.mail = MailServer(self.mail_configuration, self.mail_accounts)
        self.mail.start()
        clean_up: Any = self
        clean_up.addCleanup(self.mail.stop)
