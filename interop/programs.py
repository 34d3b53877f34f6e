"""How each client of the guide is started from the text that client-config prints."""

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interop import sending
from interop.attempt import RECIPIENT, Try, message
from interop.kit import expect, free_port, is_listening, wait_for
from interop.machine import Outcome

_BESIDE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Client:
    """A client: its format, its word in the subject, what it sends and how it runs."""

    format: str
    word: str
    drive: Callable[[Try], Outcome]
    html: bool = True

    @property
    def subject(self) -> str:
        """The subject by which its message is known."""
        return f"Hello from {self.word}"


# Node


def install_node(libraries: Path) -> None:
    """Nodemailer and Express from npm."""
    quiet = ("--silent", "--no-audit", "--no-fund")
    _install("npm", "install", *quiet, "--prefix", libraries, "nodemailer", "express")


def _node_environment(attempt: Try) -> dict[str, str]:
    return {"NODE_PATH": str(attempt.libraries / "node_modules")}


def _nodemailer(attempt: Try) -> Outcome:
    script = attempt.write("send.js", attempt.text)
    return attempt.run("node", script, **_node_environment(attempt))


def _express(attempt: Try) -> Outcome:
    """Start the application, and post to it what the guide's example takes."""
    script = attempt.write("app.js", attempt.text)
    port = free_port()
    machine, log = attempt.machine, attempt.folder / "express.log"
    environment = machine.environment(
        attempt.folder,
        SMTP_PASSWORD=attempt.password,
        PORT=str(port),
        **_node_environment(attempt),
    )
    with (
        log.open("wb") as out,
        subprocess.Popen(
            machine.words("node", script),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as app,
    ):
        try:
            wait_for("Express listens", lambda: is_listening("127.0.0.1", port))
            return _posted(port)
        finally:
            app.kill()


def _posted(port: int) -> Outcome:
    wanted = {
        "to": RECIPIENT,
        "subject": "Hello from Express",
        "text": "Hello world! This is a test email sent using Express.",
        "html": "<b>Hello world!</b> This is a test email sent using Express.",
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/send-email",
        json.dumps(wanted).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=240) as answer:
            return Outcome(0, answer.read().decode())
    except urllib.error.HTTPError as error:
        return Outcome(1, error.read().decode())


# Python


def install_python(libraries: Path) -> None:
    """Django and aiosmtplib from PyPI."""
    pip = (sys.executable, "-m", "pip", "install", "-qq", "--target")
    _install(*pip, libraries, "django", "aiosmtplib")


def _python(attempt: Try) -> Outcome:
    script = attempt.write("send.py", attempt.text)
    libraries = str(attempt.libraries)
    return attempt.run(sys.executable, script, PYTHONPATH=libraries)


_CALL_THE_VIEW = """\
import django
django.setup()
from views import send_email_view
print(send_email_view(None).content.decode())
"""


def _django(attempt: Try) -> Outcome:
    settings, _, views = attempt.text.partition("# views.py\n")
    attempt.write("settings.py", settings)
    attempt.write("views.py", views)
    return attempt.run(
        *(sys.executable, "-c", _CALL_THE_VIEW),
        PYTHONPATH=f"{attempt.folder}:{attempt.libraries}",
        DJANGO_SETTINGS_MODULE="settings",
    )


# PHP


def _php(attempt: Try) -> Outcome:
    attempt.write("vendor/autoload.php", (_BESIDE / "autoload.php").read_text())
    script = attempt.write("send.php", attempt.text)
    return attempt.run("php", script)


def _laravel(attempt: Try) -> Outcome:
    """A small application whose .env is the printed text."""
    attempt.write(".env", 'APP_NAME="Your App"\n' + attempt.text)
    page = "<b>Hello world!</b> This is a test email sent using Laravel."
    attempt.write("views/welcome.blade.php", page)
    plain = "Hello world! This is a test email sent using Laravel."
    attempt.write("views/welcome-text.blade.php", plain)
    script = attempt.write("artisan.php", (_BESIDE / "laravel.php").read_text())
    return attempt.run("php", script)


# Ruby, Java, Go, Perl


def _ruby(attempt: Try) -> Outcome:
    return attempt.run("ruby", attempt.write("send.rb", attempt.text))


_JARS = Path("/usr/share/java")


def _java(attempt: Try, *jars: str) -> Outcome:
    """Java runs a program of one file from its source."""
    attempt.machine.trust_in_java()
    script = attempt.write("SendEmail.java", attempt.text)
    path = ":".join(str(_JARS / jar) for jar in jars)
    small = ("-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx256m")
    return attempt.run("java", *small, "-cp", path, script)


def _javamail(attempt: Try) -> Outcome:
    return _java(attempt, "javax.mail.jar", "javax.activation.jar")


def _jakarta(attempt: Try) -> Outcome:
    return _java(attempt, "jakarta-mail.jar", "jakarta-activation.jar")


def _go(attempt: Try) -> Outcome:
    script = attempt.write("send.go", attempt.text)
    cache = str(attempt.libraries / "go-build")
    return attempt.run("go", "run", script, GOCACHE=cache, GO111MODULE="off")


def _perl(attempt: Try) -> Outcome:
    return attempt.run("perl", attempt.write("send.pl", attempt.text))


# The command line


def _shell(attempt: Try) -> Outcome:
    """What stands in the text is a command."""
    content = message("curl", attempt.sender).replace("\n", "\r\n")
    attempt.write("message.eml", "").write_bytes(content.encode())
    return attempt.run("sh", attempt.write("send.sh", attempt.text))


def _msmtp(attempt: Try) -> Outcome:
    attempt.write(".msmtprc", attempt.text)
    return attempt.run("msmtp", RECIPIENT, typed=message("msmtp", attempt.sender))


def _mutt(attempt: Try) -> Outcome:
    attempt.write(".muttrc", attempt.text)
    page = "<b>Hello world!</b> This is a test email sent using mutt."
    both = attempt.write("both", f"#!/bin/sh\nprintf 'text/html\\n\\n{page}\\n'\n")
    both.chmod(0o700)
    html = ("set send_multipart_alternative=yes", "copy=no")
    settings = [
        f"set {html[1]}",
        html[0],
        f"set send_multipart_alternative_filter={both}",
    ]
    options = [word for setting in settings for word in ("-e", setting)]
    hello = "Hello world! This is a test email sent using mutt.\n"
    return attempt.run(
        "mutt", *options, "-s", "Hello from mutt", RECIPIENT, typed=hello
    )


def _s_nail(attempt: Try) -> Outcome:
    settings = attempt.write(".mailrc", attempt.text)
    page = "<b>Hello world!</b> This is a test email sent using s-nail.\n"
    attached = attempt.write("page.html", page)
    hello = "Hello world! This is a test email sent using s-nail.\n"
    options = ("-s", "Hello from s-nail", "-a", attached, RECIPIENT)
    # for root it looks in the home of the passwd file, whatever HOME says
    return attempt.run(
        "s-nail", *options, typed=hello, MAILRC=str(settings), DEAD="/dev/null"
    )


def _git(attempt: Try) -> Outcome:
    attempt.write(".gitconfig", attempt.text)
    hello = "Hello world! This is a test email sent using git."
    attempt.write("hello.txt", hello + "\n")
    who = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "Your Name"), ("EMAIL", attempt.sender))
    }
    prepare = "git init -q && git add hello.txt && git commit -q -m 'Hello from git'"
    quiet = "--quiet --confirm=never --suppress-cc=all"
    send = f"git send-email {quiet} --to={RECIPIENT} -1 --root"
    return attempt.run("sh", "-ec", f"{prepare} -m '{hello}'\n{send}", **who)


CLIENTS = {
    client.format: client
    for client in (
        Client("nodemailer", "Nodemailer", _nodemailer),
        Client("express", "Express", _express),
        Client("smtplib", "smtplib", _python),
        Client("aiosmtplib", "aiosmtplib", _python),
        Client("django", "Django", _django),
        Client("phpmailer", "PHPMailer", _php),
        Client("laravel", "Laravel", _laravel),
        Client("symfony", "Symfony Mailer", _php),
        Client("ruby", "Ruby Mail", _ruby),
        Client("javamail", "javax.mail", _javamail),
        Client("jakarta", "jakarta.mail", _jakarta),
        Client("go", "Go", _go),
        Client("perl", "Perl", _perl),
        Client("swaks", "swaks", _shell, html=False),
        Client("curl", "curl", _shell),
        Client("msmtp", "msmtp", _msmtp),
        Client("mutt", "mutt", _mutt),
        Client("s-nail", "s-nail", _s_nail),
        Client("git", "git", _git, html=False),
        Client("exim", "Exim", sending.exim),
        Client("postfix", "Postfix", sending.postfix),
        Client("thunderbird", "Thunderbird", sending.thunderbird),
    )
}


def _install(*command: str | Path) -> None:
    expect(shutil.which(command[0]), f"{command[0]} is not installed here")
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    said = f"{command[0]} could not install: {done.stdout[-1000:]}"
    expect(done.returncode == 0, said)
