"""The clients that are mail servers, or have a window: Exim, Postfix, Thunderbird."""

import os
import shutil
import smtplib
import subprocess
from contextlib import suppress
from pathlib import Path

from interop.attempt import RECIPIENT, Try, message
from interop.kit import expect, wait_for
from interop.machine import Outcome
from interop.marionette import Marionette
from interop.postfix import Postfix

# Exim


def install_exim(libraries: Path) -> None:
    """Exim's binary from its package, which cannot be installed beside Postfix."""
    if (libraries / "root").exists():
        return
    libraries.mkdir(parents=True, exist_ok=True)
    _quietly("apt-get", "download", "-qq", "exim4-daemon-light", folder=libraries)
    package = next(libraries.glob("exim4-daemon-light_*.deb"))
    _quietly("dpkg-deb", "-x", package, libraries / "root", folder=libraries)
    (libraries / "root" / "usr" / "sbin" / "exim4").chmod(0o4755)


def _quietly(*command: str | Path, folder: Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    expect(done.returncode == 0, f"{command[0]} failed: {done.stdout[-1000:]}")


_EXIM = """\
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
exim_user = mail
exim_group = mail
exim_path = {binary}
keep_environment =
"""


def exim(attempt: Try) -> Outcome:
    """Exim delivers it in the foreground; what it says is its log."""
    folder = attempt.folder
    folder.chmod(0o755)
    (folder / "spool").mkdir()
    for place in (folder, folder / "spool"):
        shutil.chown(place, "mail", "mail")
    secret = attempt.write("smtp-password", attempt.password + "\n")
    shutil.chown(secret, "mail", "mail")
    text = attempt.text.replace("/etc/exim4/smtp-password", str(secret))
    binary = attempt.libraries / "root" / "usr" / "sbin" / "exim4"
    settings = _EXIM.format(folder=folder, binary=binary)
    configuration = attempt.write("exim.conf", settings + text)
    configuration.chmod(0o644)
    words = (binary, "-C", configuration, "-odf", "-f", attempt.sender, RECIPIENT)
    done = attempt.run(*words, typed=message("Exim", attempt.sender))
    logs = [log.read_text(errors="replace") for log in sorted(folder.glob("*log"))]
    said = done.said + "".join(logs)
    return Outcome(0 if " => " in said else 1, said)


# Postfix


def postfix(attempt: Try) -> Outcome:
    """A Postfix of its own hands the message on; what it says is its log."""
    words = f"[{attempt.host}]:{attempt.port} {attempt.login}:{attempt.password}\n"
    secret = attempt.write("sasl_passwd", words)
    more = attempt.text.replace("/etc/postfix/sasl_passwd", str(secret))
    place = attempt.machine.words()
    with Postfix(attempt.folder / "postfix", more, prefix=tuple(place)) as client:
        with smtplib.SMTP("127.0.0.1", client.port, timeout=60) as session:
            content = message("Postfix", attempt.sender).replace("\n", "\r\n")
            session.sendmail(attempt.sender, RECIPIENT, content.encode())
        wait_for("Postfix has tried", lambda: "status=" in client.maillog())
        log = client.maillog()
    return Outcome(0 if "status=sent" in log else 1, log)


# Thunderbird

_PREFERENCES = """\
user_pref("mail.accountmanager.accounts", "account1");
user_pref("mail.accountmanager.defaultaccount", "account1");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.account.account1.server", "server1");
user_pref("mail.server.server1.type", "none");
user_pref("mail.server.server1.hostname", "Local Folders");
user_pref("mail.server.server1.userName", "nobody");
user_pref("mail.server.server1.name", "Local Folders");
user_pref("mail.accountmanager.localfoldersserver", "server1");
user_pref("mail.identity.id1.fullName", "Your Name");
user_pref("mail.identity.id1.useremail", "{sender}");
user_pref("mail.identity.id1.smtpServer", "smtp1");
user_pref("mail.identity.id1.valid", true);
user_pref("mail.identity.id1.fcc", false);
user_pref("mail.identity.id1.compose_html", true);
user_pref("mail.smtpservers", "smtp1");
user_pref("mail.smtp.defaultserver", "smtp1");
user_pref("mail.smtpserver.smtp1.hostname", "{server}");
user_pref("mail.smtpserver.smtp1.port", {port});
user_pref("mail.smtpserver.smtp1.try_ssl", {tls});
user_pref("mail.smtpserver.smtp1.authMethod", {method});
user_pref("mail.smtpserver.smtp1.username", "{user}");
user_pref("mail.default_send_format", 3);
user_pref("mail.provider.enabled", false);
user_pref("mail.rights.version", 1);
user_pref("mailnews.start_page.enabled", false);
user_pref("mail.shell.checkDefaultClient", false);
user_pref("mail.spotlight.firstRunDone", true);
user_pref("mail.winsearch.firstRunDone", true);
user_pref("app.update.enabled", false);
user_pref("app.donation.eoy.version.viewed", 999);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("extensions.getAddons.cache.enabled", false);
user_pref("marionette.port", {marionette});
"""

# what the form says, and what Thunderbird keeps of it
_SECURITY = {"SSL/TLS": 3, "STARTTLS": 2}
_METHOD = {"Normal password": 3}


def _form(text: str) -> dict[str, str]:
    """What a person reads in the printed text and types into the form."""
    lines = (line.partition(":") for line in text.splitlines() if line.startswith("  "))
    return {name.strip(): value.strip() for name, _, value in lines}


def thunderbird(attempt: Try) -> Outcome:
    """Set up by the printed form, written to in its own window, without a screen."""
    form, profile = _form(attempt.text), attempt.folder / "profile"
    remote = Marionette()
    preferences = _PREFERENCES.format(
        sender=attempt.sender,
        server=form["Server Name"],
        port=form["Port"],
        tls=_SECURITY[form["Connection security"]],
        method=_METHOD[form["Authentication method"]],
        user=form["User Name"],
        marionette=remote.port,
    )
    attempt.write("profile/user.js", preferences)
    _trust(attempt, profile)
    log = attempt.folder / "thunderbird.log"
    words = attempt.machine.words(
        *("thunderbird", "--profile", profile, "--headless", "--marionette"),
        "--remote-allow-system-access",
    )
    with (
        log.open("wb") as out,
        subprocess.Popen(
            words,
            env=attempt.machine.environment(attempt.folder),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as running,
    ):
        try:
            said = remote.send(form, attempt.password)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, 9)
    return Outcome(0 if said == "sent" else 1, said)


def _trust(attempt: Try, profile: Path) -> None:
    """Thunderbird looks at no file of the system, but at its own store."""
    store = f"sql:{profile}"
    _quietly("certutil", "-N", "-d", store, "--empty-password", folder=profile)
    authority = ("-n", "interop", "-t", "C,,", "-i", attempt.machine.authority)
    _quietly("certutil", "-A", "-d", store, *authority, folder=profile)
