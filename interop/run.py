"""Runs the scenarios against real programs: `python -m interop.run [NAME...]`.

Each scenario is a function that is given a workbench and raises when something is
not as it must be. The last line has the counts. `--list` shows the names; the logs
of what failed stay in a folder that is named, and their ends are printed.
"""

import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from interop import (
    clients,
    databases,
    dovecot,
    encryption,
    endings,
    figures,
    guide,
    heavy,
    installing,
    names,
    packages,
    power,
    relaying,
    scanning,
    security,
    shortage,
    signatures,
    trying,
)
from interop.kit import Failed, Workbench

_TAIL = 40


@dataclass(frozen=True, slots=True)
class Scenario:
    """A function to run, the Debian packages it needs, the seconds it may take."""

    run: Callable[[Workbench], None]
    needs: tuple[str, ...] = ()
    limit: int = 300


_POSTFIX = ("postfix",)
_SASL = ("postfix", "libsasl2-modules")
_SWAKS = ("swaks", "libnet-ssleay-perl")
_KNOT = ("knot",)
_DOVECOT = ("dovecot-core", "dovecot-imapd", "dovecot-pop3d", "dovecot-lmtpd")
_LARAVEL = ("php-laravel-framework", "php-vlucas-phpdotenv")
_PHP = ("php-cli", "php-mbstring", "libphp-phpmailer", "php-symfony-mailer", *_LARAVEL)
_PERL = ("libio-socket-ssl-perl", "libauthen-sasl-perl")
_JAVA = (
    *("openjdk-17-jdk-headless", "libmail-java", "libjakarta-mail-java"),
    "libjakarta-activation-java",
)
_LANGUAGES = ("ruby-mail", "golang-go", *_PERL)
_THUNDERBIRD = ("thunderbird", "libnss3-tools")
# a quarter of a minute each, but not where everything is done at once
_LONG = 900
_GIT = ("git", "git-email", *_PERL)
_SHELL = (*_SWAKS, "curl", "msmtp", "mutt", "s-nail", *_GIT)
_PROMETHEUS = ("prometheus",)
_SIGNED = ("postfix", "knot", "unbound")

SCENARIOS = {
    "sink": Scenario(relaying.to_a_sink),
    "postfix-next-hop": Scenario(relaying.through_postfix, _POSTFIX),
    "postfix-next-hop-tls": Scenario(relaying.through_postfix_tls, _POSTFIX),
    "postfix-mailbox": Scenario(relaying.to_a_mailbox, _POSTFIX),
    "postfix-submits-tls": Scenario(relaying.from_postfix_tls, _SASL),
    "postfix-submits-starttls": Scenario(relaying.from_postfix_starttls, _SASL),
    "swaks-delivers": Scenario(clients.delivers, _SWAKS),
    "swaks-refused": Scenario(clients.refused, _SWAKS),
    "clients-node": Scenario(guide.with_node, limit=_LONG),
    "clients-python": Scenario(guide.with_python, limit=_LONG),
    "clients-php": Scenario(guide.with_php, _PHP, _LONG),
    "clients-languages": Scenario(guide.with_languages, _LANGUAGES, _LONG),
    "clients-java": Scenario(guide.with_java, _JAVA, _LONG),
    "clients-commands": Scenario(guide.with_commands, _SHELL, _LONG),
    "clients-servers": Scenario(guide.with_servers, _SASL, _LONG),
    "clients-thunderbird": Scenario(guide.with_thunderbird, _THUNDERBIRD, _LONG),
    "clients-notices": Scenario(guide.with_notices, (*_PHP, *_JAVA), _LONG),
    "tls-scanned": Scenario(encryption.scanned, ("testssl.sh", "nmap"), _LONG),
    "tls-mistakes": Scenario(encryption.mistaken),
    "try": Scenario(trying.tried),
    "certbot": Scenario(encryption.certbot, ("certbot", "pebble"), _LONG),
    "dns-exchangers": Scenario(names.exchangers, _KNOT),
    "dns-refusals": Scenario(names.refusals, _KNOT),
    "domain-published": Scenario(names.domain_published, _KNOT),
    "dns-dead": Scenario(names.dead_server, _KNOT),
    "transport-security": Scenario(security.transport_security, _SIGNED),
    "kill": Scenario(endings.killed, limit=3600),
    "power-cut": Scenario(power.cuts, limit=3600),
    "power-cut-control": Scenario(power.control, ("eatmydata",)),
    "disk-full": Scenario(shortage.full),
    "disk-full-at-start": Scenario(shortage.full_at_start),
    "disk-read-only": Scenario(shortage.read_only),
    "few-descriptors": Scenario(shortage.few_descriptors),
    "sigterm-load": Scenario(endings.stops, limit=600),
    "sigterm-drains": Scenario(endings.drains),
    "sigterm-out-of-time": Scenario(endings.drains_out_of_time),
    "sighup": Scenario(endings.reloads),
    "sighup-refused": Scenario(endings.reload_refused),
    "uid-and-gid": Scenario(installing.privileges_dropped),
    "systemd-sockets": Scenario(installing.systemd_sockets),
    "package": Scenario(installing.package, limit=600),
    "dovecot-accounts": Scenario(dovecot.accounts, _DOVECOT),
    "dovecot-send-as": Scenario(dovecot.send_as, _DOVECOT),
    "dovecot-mailboxes": Scenario(dovecot.mailboxes, _DOVECOT),
    "postgresql": Scenario(databases.accounts, ("postgresql",)),
    "promtool": Scenario(figures.promtool, _PROMETHEUS),
    "clamd": Scenario(scanning.with_clamd, ("clamav-daemon",)),
    "rspamd": Scenario(scanning.with_rspamd, ("rspamd",)),
    "spamd": Scenario(scanning.with_spamd, ("spamd", "spamassassin")),
    "opendkim": Scenario(scanning.with_opendkim, ("opendkim",)),
    "dkim": Scenario(signatures.signed, ("opendkim",), limit=600),
    "heavy-content": Scenario(heavy.content),
    "demo": Scenario(installing.demo, limit=900),
}


def main(words: list[str]) -> int:
    """Run the named scenarios, or all; 0 when none failed."""
    if words == ["--list"]:
        for name, scenario in SCENARIOS.items():
            print(f"{name:26} {scenario.run.__doc__}")
        return 0
    if unknown := [word for word in words if word not in SCENARIOS]:
        print(f"no scenario {' '.join(unknown)}; --list shows them", file=sys.stderr)
        return 2
    chosen = words or list(SCENARIOS)
    top = Path(tempfile.mkdtemp(prefix="interop-"))
    top.chmod(0o755)
    failed = _prepare(chosen) + [name for name in chosen if not _report(name, top)]
    if not failed:
        shutil.rmtree(top)
    print(
        f"{len(chosen) - len(set(failed) & set(chosen))} passed, {len(failed)} failed"
    )
    return 1 if failed else 0


def _prepare(chosen: list[str]) -> list[str]:
    """Install the packages of the chosen ones; "packages" when that failed."""
    needed = {package for name in chosen for package in SCENARIOS[name].needs}
    lacking = [package for package in packages.missing() if package in needed]
    if not lacking:
        return []
    try:
        packages.install(lacking)
    except Failed as error:
        print(f"FAIL packages: {error}", flush=True)
        return ["packages"]
    return []


def _report(name: str, top: Path) -> bool:
    """Run one, say how it went and how long it took; whether it passed."""
    folder = top / name
    folder.mkdir()
    began = time.monotonic()
    reason = _reason_of_failure(SCENARIOS[name], folder)
    took = time.monotonic() - began
    print(f"{'FAIL' if reason else 'PASS'} {name} ({took:.1f} s)", flush=True)
    if reason:
        print(f"     {reason}")
        _print_logs(folder)
    else:
        shutil.rmtree(folder)
    return not reason


def _reason_of_failure(scenario: Scenario, folder: Path) -> str:
    """Run it; why it failed, or nothing."""
    lacking = set(packages.missing()) & set(scenario.needs)
    if lacking:
        return f"needs Debian packages that are not installed: {' '.join(lacking)}"
    try:
        with _time_limit(scenario.limit), ExitStack() as closing:
            scenario.run(Workbench(folder, closing))
    except Failed as error:
        return str(error)
    except Exception:  # noqa: BLE001 - one scenario's bug must not end the others
        return traceback.format_exc()
    return ""


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    """Raise in the middle of whatever takes longer."""

    def too_long(_number: int, _frame: FrameType | None) -> None:
        raise Failed(f"took longer than its {seconds} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _print_logs(folder: Path) -> None:
    """Show the end of every log of a scenario, and where they stay."""
    logs = sorted([*folder.glob("**/*.log"), *folder.glob("**/maillog")])
    for log in logs:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        print(f"     -- {log}, its last lines of {len(lines)}")
        for line in lines[-_TAIL:]:
            print(f"     | {line[:400]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
