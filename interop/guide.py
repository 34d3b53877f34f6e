"""Scenarios with the clients of the guide, each run from what client-config prints.

On the very ports 465 and 587 of an address of loopback that is this run's own, with a
verified certificate: the message must arrive as it was meant, a wrong password and a
wrong From must show the words that docs/troubleshooting.md says they show.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from fwd_mta.admin.client_config import Wanted, filled
from interop import programs, sending
from interop.attempt import RECIPIENT, Try
from interop.kit import Workbench, expect, expect_in, wait_for
from interop.machine import Machine, Outcome
from interop.messages import PASSWORD
from interop.programs import CLIENTS, Client
from interop.server import Server
from interop.sink import Caught, Sink

LOGIN = "your-username@your-domain.com"
FOREIGN = "somebody@elsewhere.example"
HOST = "smtp.your-domain.com"
_PORTS = (465, 587)
_WORKERS = 3


def own_address() -> str:
    """An address of loopback that no other run beside this one has."""
    number = os.getpid() % 60_000
    return f"127.46.{number // 240}.{number % 240 + 2}"


@dataclass(frozen=True, slots=True)
class _Desk:
    """What the clients of one scenario share."""

    folder: Path
    server: Server
    sink: Sink
    machine: Machine
    libraries: Path

    def attempt(
        self,
        client: Client,
        port: int,
        *,
        login: str = LOGIN,
        sender: str = "",
        password: str = PASSWORD,
        notices: bool = False,
    ) -> Outcome:
        """One try of a client, set by the text that is printed for it."""
        sender = sender or login
        wanted = Wanted(
            host=HOST, login=login, sender=sender, port=port, notices=notices
        )
        number = len(list(self.folder.iterdir()))
        folder = self.folder / f"{client.format}-{port}-{number}"
        folder.mkdir()
        return client.drive(
            Try(
                machine=self.machine,
                folder=folder,
                libraries=self.libraries,
                text=filled(client.format, wanted),
                host=HOST,
                port=port,
                login=login,
                sender=sender,
                password=password,
            )
        )

    def arrived(self, client: Client) -> list[Caught]:
        """What the sink has of it, in order."""
        return [
            one
            for one in self.sink.caught
            if one.field("Subject").endswith(client.subject)
        ]

    def newest(self, client: Client, count: int) -> Caught:
        """The last of so many messages of a client, awaited."""
        what = f"{count} messages of {client.format}"
        wait_for(what, lambda: len(self.arrived(client)) >= count)
        return self.arrived(client)[-1]


def with_node(bench: Workbench) -> None:
    """Nodemailer, alone and in Express."""
    desk = _desk(bench)
    programs.install_node(desk.libraries)
    _all(desk, "nodemailer", "express")


def with_python(bench: Workbench) -> None:
    """Python's smtplib, aiosmtplib and Django."""
    desk = _desk(bench)
    programs.install_python(desk.libraries)
    _all(desk, "smtplib", "aiosmtplib", "django")
    _django_as_another(desk)


def with_php(bench: Workbench) -> None:
    """PHPMailer, Laravel and Symfony Mailer."""
    _all(_desk(bench), "phpmailer", "laravel", "symfony")


def with_languages(bench: Workbench) -> None:
    """Ruby's Mail, Perl's Net::SMTP and Go's net/smtp."""
    _all(_desk(bench), "ruby", "perl", "go")


def with_java(bench: Workbench) -> None:
    """JavaMail and Jakarta Mail."""
    desk = _desk(bench)
    desk.machine.trust_in_java()
    _all(desk, "javamail", "jakarta")


def with_commands(bench: Workbench) -> None:
    """swaks, curl, msmtp, mutt, s-nail and git send-email."""
    _all(_desk(bench), "swaks", "curl", "msmtp", "mutt", "s-nail", "git")


def with_servers(bench: Workbench) -> None:
    """Exim and Postfix, which hand all their mail to us."""
    desk = _desk(bench)
    sending.install_exim(desk.libraries)
    _all(desk, "exim", "postfix")


def with_thunderbird(bench: Workbench) -> None:
    """Thunderbird itself, without a screen, its compose window and its dialogs."""
    _all(_desk(bench), "thunderbird")


def with_notices(bench: Workbench) -> None:
    """Who asks for it is told of delivery: in the client, or in its account."""
    desk = _desk(bench)
    programs.install_node(desk.libraries)
    desk.machine.trust_in_java()
    for name in ("nodemailer", "phpmailer", "javamail"):
        _expect_sent(desk.attempt(CLIENTS[name], 465, notices=True), name)
        desk.newest(CLIENTS[name], 1)
        notice = _notice_for(desk, CLIENTS[name])
        expect_in("Action: relayed", notice, f"the notice for {name}")
    expect_in("Original-Envelope-Id: hello-1", _reports(desk)[0], "Nodemailer's notice")
    laravel = CLIENTS["laravel"]
    _expect_sent(desk.attempt(laravel, 465), "laravel")
    other = "laravel@your-domain.com"
    asks = ("--notify", "failure", "--notify", "success", "--password-stdin")
    desk.server.fwdmta("account", "add", other, *asks, typed=PASSWORD + "\n")
    _expect_sent(desk.attempt(laravel, 465, login=other), "laravel")
    desk.newest(laravel, 2)
    expect_in("Action: relayed", _notice_for(desk, laravel), "Laravel's notice")
    expect(len(_reports(desk)) == 4, "somebody was told who had not asked")


# What each goes through


def _desk(bench: Workbench) -> _Desk:
    address = own_address()
    sink = bench.keep(Sink())
    way_out = {"delivery": f'relayhost = "[127.0.0.1]:{sink.port}"'}
    server = bench.keep(Server(bench, way_out, address=address, name=HOST))
    server.add_account(LOGIN)
    folder, libraries = bench.folder / "tries", bench.folder / "libraries"
    folder.mkdir()
    libraries.mkdir()
    return _Desk(folder, server, sink, Machine(bench, {HOST: address}), libraries)


def _all(desk: _Desk, *names: str) -> None:
    """Each client on both ports, the clients beside each other."""
    said = shown()
    with ThreadPoolExecutor(_WORKERS) as pool:
        for done in [
            pool.submit(_one, desk, CLIENTS[name], said[name]) for name in names
        ]:
            done.result()
    count = len(names) * len(_PORTS)
    expect(len(desk.sink.caught) == count, "something refused was delivered")


def _one(desk: _Desk, client: Client, said: "Shown") -> None:
    """Delivered, then refused for the password, then for the sender; on both ports."""
    for number, port in enumerate(_PORTS, 1):
        where = f"{client.format} on {port}"
        _expect_sent(desk.attempt(client, port), where)
        _expect_intact(client, desk.newest(client, number), where)
        refused = desk.attempt(client, port, password="wrong password")
        _expect_refused(refused, said.wrong_password, f"{where}, wrong password")
        refused = desk.attempt(client, port, sender=FOREIGN)
        _expect_refused(refused, said.wrong_sender, f"{where}, wrong sender")
        if port == _PORTS[0]:
            _keep(client, desk.arrived(client)[-1])


def _expect_sent(outcome: Outcome, where: str) -> None:
    words = f"{where}: status {outcome.status}: {outcome.said[-1500:]}"
    expect(outcome.status == 0, words)


def _expect_refused(outcome: Outcome, words: str, where: str) -> None:
    """It failed, and showed each piece of these words in their order."""
    expect(outcome.status != 0, f"{where}: it says that all is well")
    rest = " ".join(outcome.said.split())
    for piece in filter(None, words.split("…")):
        _, found, rest = rest.partition(" ".join(piece.split()))
        expect_in(piece if not found else "", outcome.said, f"what is shown: {where}")


def _expect_intact(client: Client, caught: Caught, where: str) -> None:
    """Envelope, header and both parts are what the client was to send."""
    sender = caught.mail.partition(" ")[0]
    expect(sender == f"FROM:<{LOGIN}>", f"{where}: MAIL {caught.mail}")
    recipients = [each.partition(" ")[0] for each in caught.recipients]
    expect(recipients == [f"TO:<{RECIPIENT}>"], f"{where}: RCPT {recipients}")
    expect(b"Received: " in caught.content[:10], f"{where}: no trace field")
    message = message_from_bytes(caught.content, policy=policy.default)
    for name in ("Date", "Message-ID"):
        expect(len(message.get_all(name, [])) == 1, f"{where}: not one {name}")
    expect_in(LOGIN, str(message["From"]), f"{where}: From")
    expect(not message.defects, f"{where}: {message.defects}")
    wanted = f"This is a test email sent using {client.word}."
    text = _part(message, "text/plain")
    for piece in ("Hello world!", wanted):
        expect_in(piece, text, f"{where}: the text part")
    if client.html:
        page = _part(message, "text/html")
        expect_in(f"<b>Hello world!</b> {wanted}", page, f"{where}: the HTML part")


def _part(message: EmailMessage, kind: str) -> str:
    """The first part of that kind, decoded, its white space made plain."""
    parts = (part for part in message.walk() if part.get_content_type() == kind)
    part = next(parts, None)
    return "" if part is None else " ".join(str(part.get_content()).split())


def _keep(client: Client, caught: Caught) -> None:
    """Leave the message in INTEROP_CORPUS as the client made it: tests read them."""
    if not (folder := os.environ.get("INTEROP_CORPUS")):
        return
    lines = caught.content.splitlines(keepends=True)
    while lines[0].startswith((b"Received:", b" ", b"\t")):
        del lines[0]
    Path(folder, f"{client.format}.eml").write_bytes(b"".join(lines))


# Notices and the example of Django


def _reports(desk: _Desk) -> list[str]:
    """The notices that have come."""
    return [
        one.content.decode("utf-8", "replace")
        for one in desk.sink.caught
        if one.field("Content-Type").startswith("multipart/report")
    ]


def _notice_for(desk: _Desk, client: Client) -> str:
    """The notice about the last message of a client, awaited."""
    name = desk.arrived(client)[-1].field("Message-ID")

    def there() -> str:
        return next((one for one in _reports(desk) if name in one), "")

    return wait_for(f"a notice of delivery for {client.format}", there)


def _django_as_another(desk: _Desk) -> None:
    """The guide's view sends as from@: refused, until the account may send as all."""
    django, sender = CLIENTS["django"], "from@your-domain.com"
    before = len(desk.arrived(django))
    refused = desk.attempt(django, 465, sender=sender)
    words = f"SMTPSenderRefused: (553…fwdmta account add {LOGIN} --send-as {sender}"
    _expect_refused(refused, words, "django as from@")
    desk.server.fwdmta("account", "add", LOGIN, "--send-as", "*@your-domain.com")
    accounts = (desk.server.folder / "accounts.toml").read_text(encoding="utf-8")
    expect_in('"*@your-domain.com"', accounts, "accounts.toml")
    _expect_sent(desk.attempt(django, 465, sender=sender), "django as from@")
    caught = desk.newest(django, before + 1)
    expect_in(f"FROM:<{sender}>", caught.mail, "its envelope")
    expect_in(sender, caught.field("From"), "its From")


# What docs/troubleshooting.md says that they show


@dataclass(frozen=True, slots=True)
class Shown:
    """What a client shows, with "…" for what varies."""

    wrong_password: str
    wrong_sender: str


_PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"


def shown() -> dict[str, Shown]:
    """The table of the page, by the name of the format."""
    rows = (line.split(" | ") for line in _PAGE.read_text("utf-8").splitlines())
    return {
        row[0].strip("|` "): Shown(row[1].strip(" `"), row[2].strip("|` "))
        for row in rows
        if len(row) == 3 and row[0].strip("|` ") in CLIENTS
    }
