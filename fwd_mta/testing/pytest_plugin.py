"""The fixture `mail_server`; pytest finds it when fwd_mta is installed."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def mail_server(request: Any) -> Iterator[Any]:
    """A running `fwd_mta.testing.server.MailServer`, new for each test.

    `@pytest.mark.mail(configuration=..., accounts={...})` says more about it.
    """
    # Whoever does not use the fixture does not pay for the import.
    from fwd_mta.testing.server import MailServer  # noqa: PLC0415

    mark = request.node.get_closest_marker("mail")
    server = MailServer(**(mark.kwargs if mark else {}))
    server.start()
    yield server
    server.stop()


def pytest_configure(config: Any) -> None:
    """Tell pytest of the mark."""
    says = "mail(configuration, accounts): the server of the fixture mail_server"
    config.addinivalue_line("markers", says)
