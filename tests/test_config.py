"""The configuration: every key, all errors at once, and the file that documents it."""

import re
import tomllib
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta import config, settings
from fwd_mta.config import (
    DEFAULT_LISTENERS,
    KEYS,
    ConfigError,
    Configuration,
    Listener,
    parse,
)
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.session import Service
from fwd_mta.outbound.connection import Timeouts
from fwd_mta.rules.inspection import RULES
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.submission import SubmissionPolicy

ETC = Path(__file__).parent.parent / "etc"
HOST = 'hostname = "mail.example.com"\n'

# For each key a value that is taken and is not its default, and one that is not taken.
VALUES: dict[str, tuple[str, str]] = {
    "hostname": ('"mx.example.org"', '"-"'),
    "state_dir": ('"/srv/mail"', '""'),
    "shutdown_grace": ('"30s"', "30"),
    "postmaster": ('"you@example.com"', '"you"'),
    "listener[].service": ('"relay"', '"smtp"'),
    "listener[].address": ('"[::]:465"', '"465"'),
    "listener[].trusted_networks": ('["10.0.0.0/8"]', '["lan"]'),
    "listener[].proxy_protocol_from": ('["10.0.0.0/8"]', '"10.0.0.0/8"'),
    "tls.certificate": ('"/a.pem"', "1"),
    "tls.private_key": ('"/a.key"', "[]"),
    "tls.also[].certificate": ('"/c"', "1"),
    "tls.also[].private_key": ('"/k"', "1"),
    "tls.sni[].names": ('["a.example"]', '"a.example"'),
    "tls.sni[].certificate": ('"/b.pem"', '""'),
    "tls.sni[].private_key": ('"/b.key"', '""'),
    "accounts.file": ('"/accounts.toml"', "true"),
    "accounts.sql.url": ('"sqlite:///mail"', '"db"'),
    "accounts.sql.password_query": ('"SELECT :login"', '""'),
    "accounts.sql.scram": ("true", '"yes"'),
    "accounts.dovecot": ('"unix:/run/auth"', '"/run/auth"'),
    "submission.message_size_limit": ('"25MB"', "25000000"),
    "submission.recipient_limit": ("50", "0"),
    "submission.hopcount_limit": ("30", "0"),
    "submission.bare_newline": ('"reject"', '"keep"'),
    "submission.long_lines": ('"reject"', '"fold"'),
    "submission.duplicate_window": ('"1m"', '"1"'),
    "submission.trace_client": ("true", '"yes"'),
    "limits.connections_per_client": ("5", "0"),
    "limits.connections_per_account": ("6", "0"),
    "limits.exempt": ('["192.0.2.0/24"]', '["192.0.2.1/24"]'),
    "limits.auth_failures_per_client": ("3", "0"),
    "limits.auth_failure_window": ('"2h"', '"0"'),
    "limits.messages_per_account": ("300", '"300"'),
    "limits.recipients_per_account": ("300", "-1"),
    "limits.messages_window": ('"2d"', '"0"'),
    "limits.suspend_after": ("5", "-1"),
    "limits.suspend_window": ('"2h"', '"0"'),
    "queue.maximal_queue_lifetime": ('"3d"', '"3 days"'),
    "queue.bounce_queue_lifetime": ('"1d"', '"1w"'),
    "queue.minimal_backoff_time": ('"60s"', '"0"'),
    "queue.maximal_backoff_time": ('"8000s"', '"0"'),
    "queue.delay_warning_time": ('"0"', '"never"'),
    "queue.bounce_size_limit": ('"1KiB"', '"1K"'),
    "queue.minimum_free_space": ('"1GB"', '"10%"'),
    "queue.index": ("false", '"no"'),
    "retention.content": ('"0"', '"30"'),
    "retention.record": ('"100d"', '"forever"'),
    "retention.term[].account": ('"ann@example.com"', '"ann"'),
    "retention.term[].domain": ('"example.com"', '"a b"'),
    "retention.term[].content": ('"1d"', '"soon"'),
    "retention.term[].record": ('"100d"', '"never"'),
    "delivery.relayhost": ('"[smtp.isp.example]:587"', '"mx"'),
    "delivery.relayhost_tls": ('"implicit"', '"tls"'),
    "delivery.relayhost_login": ('"you"', '""'),
    "delivery.relayhost_password_file": ('"/password"', '""'),
    "delivery.smtp_port": ("2525", "70000"),
    "delivery.inet_protocols": ('"ipv4"', '"ipv5"'),
    "delivery.source_addresses": ('["192.0.2.1"]', '["mail.example.com"]'),
    "delivery.tls_security_level": ('"secure"', '"dane"'),
    "delivery.tls_policy[].domain": ('"example.net"', '"a b"'),
    "delivery.tls_policy[].tls_security_level": ('"encrypt"', '"maybe"'),
    "delivery.allow_private_destinations": ("true", "1"),
    "delivery.destination_concurrency_limit": ("5", "0"),
    "delivery.timeouts.connect": ('"10s"', '"0"'),
    "delivery.timeouts.greeting": ('"10s"', '"0"'),
    "delivery.timeouts.helo": ('"10s"', '"0"'),
    "delivery.timeouts.mail": ('"10s"', '"0"'),
    "delivery.timeouts.rcpt": ('"10s"', '"0"'),
    "delivery.timeouts.data_init": ('"10s"', '"0"'),
    "delivery.timeouts.data_block": ('"10s"', '"0"'),
    "delivery.timeouts.data_done": ('"10s"', '"0"'),
    "delivery.timeouts.quit": ('"10s"', '"0"'),
    "delivery.transport.*": ('"[10.1.2.3]:2525"', '"error:"'),
    "dns.nameservers": ('["127.0.0.1:53"]', '["localhost"]'),
    "dns.trust_ad": ("true", '"true"'),
    "scan.clamd": ('"unix:/run/clamd"', '"clamd"'),
    "scan.rspamd": ('"http://127.0.0.1:11333"', '"rspamd"'),
    "scan.spamd": ('"tcp:127.0.0.1:783"', '"127.0.0.1:783"'),
    "scan.spamd_reject_score": ("10", "0"),
    "scan.milters": ('["inet:127.0.0.1:8891"]', '["127.0.0.1:8891"]'),
    "scan.on_error": ('"accept"', '"reject"'),
    "scan.timeout": ('"10s"', '"0"'),
    "scan.rules.eicar": ('"tag"', '"drop"'),
    "scan.rules.gtube": ('"tag"', '"drop"'),
    "scan.rules.executable_name": ('"tag"', '"drop"'),
    "scan.rules.executable_content": ('"tag"', '"drop"'),
    "scan.rules.executable_in_archive": ('"tag"', '"drop"'),
    "scan.rules.double_extension": ('"tag"', '"drop"'),
    "scan.rules.mime_bomb": ('"tag"', '"drop"'),
    "scan.rules.encrypted_archive": ('"tag"', '"drop"'),
    "scan.rules.display_name_address": ('"tag"', '"drop"'),
    "scan.rules.link_mismatch": ('"tag"', '"drop"'),
    "scan.rules.mixed_script_host": ('"tag"', '"drop"'),
    "scan.rules.office_macro": ('"tag"', '"drop"'),
    "scan.rules.pdf_launch": ('"tag"', '"drop"'),
    "scan.rules.raw_address_link": ('"tag"', '"drop"'),
    "return_path[].domain": ('"example.com"', '"*"'),
    "return_path[].address": ('"b@example.com"', '"b"'),
    "dkim[].domain": ('"example.com"', '"*"'),
    "dkim[].selector": ('"fwd1"', '"fwd 1"'),
    "dkim[].private_key": ('"/dkim.pem"', "1"),
    "dkim[].lifetime": ('"30d"', '"later"'),
    "metrics.address": ('"127.0.0.1:9464"', '":9464"'),
    "notices.language": ('"fi"', '"xx"'),
    "notices.domains.*": ('"de"', '"xx"'),
    "tlsrpt.sender": ('"tls@example.com"', '"tls"'),
    "tlsrpt.organization": ('"Example"', "1"),
    "tlsrpt.contact": ('"postmaster@example.com"', "1"),
    "help.url": ('"https://example.com/help"', '"help"'),
    "operator.mail": ('"you@example.com"', '"you"'),
    "help.contact": ('"postmaster@example.com"', "1"),
    "processes.receivers": ("2", '"2"'),
}

# Keys whose empty value says "nobody".
EMPTY = {"postmaster", "operator.mail", "tlsrpt.sender"}

# What must stand beside a key for the whole to make sense.
BESIDE: dict[str, str] = {
    "listener[].service": 'address = "127.0.0.1:25"',
    "listener[].address": 'service = "submissions"',
    "listener[].trusted_networks": 'service = "relay"\naddress = "127.0.0.1:25"',
    "listener[].proxy_protocol_from": 'service = "relay"\naddress = "127.0.0.1:25"',
    "tls.also[].certificate": 'private_key = "/b"',
    "tls.also[].private_key": 'certificate = "/a"',
    "tls.sni[].names": 'certificate = "/a"\nprivate_key = "/b"',
    "tls.sni[].certificate": 'names = ["a.example"]\nprivate_key = "/b"',
    "tls.sni[].private_key": 'names = ["a.example"]\ncertificate = "/b"',
    "accounts.sql.url": 'password_query = "SELECT :login"',
    "accounts.sql.password_query": 'url = "sqlite:///mail"',
    "accounts.sql.scram": ('url = "sqlite:///mail"\npassword_query = "SELECT :login"'),
    "delivery.relayhost_login": (
        'relayhost = "isp.example"\nrelayhost_password_file = "/p"'
    ),
    "delivery.relayhost_password_file": (
        'relayhost = "isp.example"\nrelayhost_login = "you"'
    ),
    "delivery.tls_policy[].tls_security_level": 'domain = "example.net"',
    "return_path[].domain": 'address = "b@example.com"',
    "return_path[].address": 'domain = "example.com"',
    "retention.term[].content": 'domain = "example.net"',
    "retention.term[].record": 'domain = "example.net"',
    "dkim[].domain": 'selector = "a"\nprivate_key = "/b"',
    "dkim[].selector": 'domain = "example.com"\nprivate_key = "/b"',
    "dkim[].private_key": 'domain = "example.com"\nselector = "a"',
    "tlsrpt.sender": (
        '[[dkim]]\ndomain = "example.com"\nselector = "a"\nprivate_key = "/b"'
    ),
    "dkim[].lifetime": ('domain = "example.com"\nselector = "a"\nprivate_key = "/b"'),
}


def written(path: str, value: str) -> str:
    """Write a configuration with one key set, and what it needs beside it."""
    table, _, name = path.rpartition(".")
    lines = f'"example.com" = {value}' if name == "*" else f"{name} = {value}"
    beside = BESIDE.get(path, "")
    head = "" if path == "hostname" else HOST
    if not table:
        return f"{head}{lines}\n{beside}\n"
    header = f"[[{table[:-2]}]]" if table.endswith("[]") else f"[{table}]"
    return f"{head}{header}\n{lines}\n{beside}\n"


def problems(text: str) -> list[str]:
    """Give the lines on what is wrong with a configuration."""
    try:
        parse(text, "fwdmta.toml")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


class KeyTests(SynchronousTestCase):
    """Every key of the table is read, judged, and named in its errors."""

    def test_every_key_is_tried_here(self) -> None:
        """A new key comes with a good and a bad value in this test."""
        self.assertEqual(sorted(VALUES), sorted(KEYS))

    def test_every_key_takes_a_good_value(self) -> None:
        """A good value is taken, and changes the configuration."""
        default = parse(HOST, "/etc/fwdmta.toml")
        for path, (good, _) in VALUES.items():
            given = parse(written(path, good), "/etc/fwdmta.toml")
            self.assertNotEqual(given, default, path)

    def test_every_key_refuses_a_bad_value(self) -> None:
        """A bad value is one error, which names file and key and what is allowed."""
        for path, (_, bad) in VALUES.items():
            found = problems(written(path, bad))
            named = path.replace("[]", "[1]").replace(".*", '."example.com"')
            self.assertEqual(len(found), 1, (path, found))
            self.assertTrue(found[0].startswith(f"fwdmta.toml: {named}: "), found)
            self.assertIn("; allowed: ", found[0], path)

    def test_every_key_refuses_a_table_and_a_date(self) -> None:
        """A value of a foreign type is an error, never an exception."""
        for path in VALUES:
            for foreign in ("{ a = 1 }", "2026-11-24", "[[1]]", "1e400", "''"):
                found = problems(written(path, foreign))
                expected = 0 if foreign == "''" and path in EMPTY else 1
                self.assertEqual(len(found), expected, (path, foreign, found))


class ParseTests(SynchronousTestCase):
    """`parse` gives a whole configuration, or everything that is wrong with it."""

    def test_needs_a_hostname_only(self) -> None:
        """With a hostname alone all other settings have their defaults."""
        given = parse(HOST, "/etc/fwdmta/fwdmta.toml")
        self.assertEqual(given, Configuration(hostname="mail.example.com"))
        self.assertEqual(given.listeners, DEFAULT_LISTENERS)
        self.assertEqual(given.later, ())

    def test_says_what_hostname_to_write(self) -> None:
        """An empty file is told the one thing it needs, with an example."""
        (only,) = problems("")
        self.assertIn("hostname: is missing", only)
        self.assertIn('hostname = "mail.example.com"', only)

    def test_reports_all_errors_at_once(self) -> None:
        """An operator mends a file in one go."""
        found = problems(
            'state_dir = 1\nstat = "x"\n[queue]\nmaximal_backoff_time = "x"\n'
            '[[listener]]\nservice = "smtp"\n[nonsense]\n'
        )
        self.assertEqual(len(found), 7)

    def test_suggests_what_was_meant(self) -> None:
        """A misspelt key is told its neighbour."""
        (only,) = problems(HOST + '[queue]\nminimal_backof_time = "5m"')
        self.assertIn("queue.minimal_backof_time: is unknown", only)
        self.assertIn("did you mean minimal_backoff_time?", only)

    def test_suggests_where_a_key_belongs(self) -> None:
        """A key in the wrong table is told the right one."""
        (only,) = problems(HOST + "[queue]\nrecipient_limit = 5")
        self.assertIn("it belongs in another table: submission.recipient_limit", only)

    def test_lists_what_is_allowed_for_an_unlike_key(self) -> None:
        """A key like no other is shown all of its table."""
        (only,) = problems(HOST + "[dns]\nzzz = 5")
        self.assertIn("allowed: nameservers, trust_ad", only)

    def test_says_where_toml_is_broken(self) -> None:
        """A file that is no TOML is one error with the line."""
        (only,) = problems("hostname = x\n")
        self.assertIn("is not TOML", only)
        self.assertIn("line 1", only)

    def test_wants_tables_where_tables_belong(self) -> None:
        """A value in the place of a table is an error that shows how to write it."""
        self.assertIn("write [queue]", problems(HOST + "queue = 5")[0])
        self.assertIn("write [[listener]]", problems(HOST + "listener = 5")[0])
        self.assertIn("write [[dkim]]", problems(HOST + "[dkim]\ndomain = 'a'")[0])
        transport = problems(HOST + "[delivery]\ntransport = 5")
        self.assertIn("write [delivery.transport]", transport[0])

    def test_replaces_the_default_listeners(self) -> None:
        """Listeners that are written are all there are."""
        text = HOST + '[[listener]]\nservice = "submissions"\naddress = "[::]:4465"'
        (only,) = parse(text, "x").listeners
        self.assertEqual(only, Listener(Service.SUBMISSIONS, "[::]:4465"))

    def test_has_default_listeners_for_an_empty_list(self) -> None:
        """No listener at all would be no server."""
        self.assertEqual(
            parse("listener = []\n" + HOST, "x").listeners, DEFAULT_LISTENERS
        )

    def test_starts_relative_paths_at_the_file(self) -> None:
        """A relative path does not depend on where the server was started."""
        text = HOST + 'state_dir = "state"\n[tls]\ncertificate = "../tls/chain.pem"'
        given = parse(text, "/etc/fwdmta/fwdmta.toml")
        self.assertEqual(given.state_dir, "/etc/fwdmta/state")
        self.assertEqual(given.tls.certificate, "/etc/tls/chain.pem")

    def test_refuses_two_listeners_at_one_address(self) -> None:
        """The second one could never be opened."""
        one = '[[listener]]\nservice = "submission"\naddress = "0.0.0.0:587"\n'
        (only,) = problems(HOST + one + one)
        self.assertIn("listener[2].address", only)
        self.assertIn("taken by listener[1]", only)

    def test_trusts_networks_on_relay_listeners_only(self) -> None:
        """On 465 and 587 nobody is trusted for where they come from."""
        (only,) = problems(
            HOST + '[[listener]]\nservice = "submission"\naddress = "0.0.0.0:587"\n'
            'trusted_networks = ["10.0.0.0/8"]'
        )
        self.assertIn("listener[1].trusted_networks", only)
        self.assertIn('service = "relay"', only)

    def test_refuses_waits_that_shrink(self) -> None:
        """The first wait is not longer than the longest."""
        text = HOST + '[queue]\nminimal_backoff_time = "2h"'
        self.assertIn("queue.minimal_backoff_time: is longer", problems(text)[0])

    def test_refuses_records_that_go_before_their_content(self) -> None:
        """A record outlives its content."""
        text = HOST + '[retention]\nrecord = "10d"'
        self.assertIn("retention.record: is shorter", problems(text)[0])

    def test_wants_login_and_password_together(self) -> None:
        """Half a login at the relayhost is an error, and so is one at no relayhost."""
        login = problems(
            HOST + '[delivery]\nrelayhost = "isp.example"\nrelayhost_login = "you"'
        )
        self.assertIn("relayhost_password_file: is missing", login[0])
        password = problems(
            HOST + '[delivery]\nrelayhost = "a.example"\nrelayhost_password_file = "x"'
        )
        self.assertIn("delivery.relayhost_login: is missing", password[0])
        nowhere = problems(
            HOST + '[delivery]\nrelayhost_login = "you"\nrelayhost_password_file = "x"'
        )
        self.assertIn("there is no delivery.relayhost", nowhere[0])

    def test_names_what_has_no_effect_yet(self) -> None:
        """A setting of a later version is taken, and said to do nothing."""
        text = HOST + "[processes]\nreceivers = 2"
        self.assertEqual(
            parse(text, "x").later,
            ("processes.receivers is set, but has no effect in this version",),
        )

    def test_is_silent_on_later_settings_that_are_off(self) -> None:
        """Writing down that something is off deserves no warning."""
        text = HOST + "[limits]\nmessages_per_account = 0\n[dns]\ntrust_ad = false"
        self.assertEqual(parse(text, "x").later, ())

    def test_survives_any_bytes_of_a_hostile_file(self) -> None:
        """Control characters in a value do not reach the operator's terminal raw."""
        (only,) = problems('hostname = "a\\u001b[2Jb"')
        self.assertNotIn("\x1b", only)
        (key,) = problems(HOST + '"\\u001b[2J" = 1')
        self.assertNotIn("\x1b", key)


class FileTests(SynchronousTestCase):
    """`locate`, `load` and `check` look at files."""

    def write(self, name: str, text: str) -> str:
        """Write a file of this test."""
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        path = directory.absolute() / name
        path.write_text(text, "utf-8")
        return str(path)

    def test_loads_a_file(self) -> None:
        """A file is read as UTF-8."""
        path = self.write("fwdmta.toml", "# Schlüssel\n" + HOST)
        self.assertEqual(config.load(path).hostname, "mail.example.com")

    def test_says_that_a_file_is_not_there(self) -> None:
        """A missing file is an error with its name."""
        error = self.assertRaises(ConfigError, config.load, "/nonexistent/x.toml")
        self.assertEqual(
            str(error), "/nonexistent/x.toml: cannot be read: No such file or directory"
        )

    def test_says_that_a_file_is_not_utf8(self) -> None:
        """Latin-1 is an error, not an exception."""
        path = self.write("fwdmta.toml", "")
        Path(path).write_bytes(b'hostname = "\xe4"')
        self.assertIn("UTF-8", str(self.assertRaises(ConfigError, config.load, path)))

    def test_locates_what_is_named(self) -> None:
        """A named file is made absolute: the server may change its directory."""
        self.assertTrue(Path(config.locate("fwdmta.toml")).is_absolute())

    def test_names_both_places_when_there_is_none(self) -> None:
        """Without any file the error names both places, and the demo."""
        self.patch(config, "PLACES", ("none.toml", "/nonexistent/fwdmta.toml"))
        text = str(self.assertRaises(ConfigError, config.locate))
        for word in ("none.toml", "/nonexistent/fwdmta.toml", "--config", "--demo"):
            self.assertIn(word, text)
        self.assertFalse(config.is_there())

    def test_takes_the_first_place(self) -> None:
        """The file in the working directory goes first."""
        path = self.write("fwdmta.toml", HOST)
        self.patch(config, "PLACES", (path, "/nonexistent/fwdmta.toml"))
        self.assertEqual(config.locate(), path)
        self.assertTrue(config.is_there())

    def test_checks_the_files_it_names(self) -> None:
        """`check` names every file that is not there, and the way to make it."""
        found = config.check(
            parse(
                HOST + 'state_dir = "x.toml"\n[tls]\ncertificate = "a.pem"\n'
                'private_key = "a.key"\n[accounts]\nfile = "b.toml"\n[delivery]\n'
                'relayhost = "isp.example"\nrelayhost_login = "you"\n'
                'relayhost_password_file = "p"',
                self.write("x.toml", ""),
            )
        )
        keys = [line.partition(": ")[0] for line in found]
        self.assertEqual(
            list(dict.fromkeys(keys)),
            [
                "tls.certificate",
                "tls.private_key",
                "accounts.file",
                "delivery.relayhost_password_file",
                "state_dir",
            ],
        )
        self.assertIn("fwdmta account add", found[2])

    def test_checks_that_certificate_and_key_are_a_pair(self) -> None:
        """Files that are no PEM are found before a client finds them."""
        path = self.write("a.pem", "nothing")
        text = f'{HOST}[tls]\ncertificate = "{path}"\nprivate_key = "{path}"\n'
        found = config.check(parse(text, path))
        self.assertTrue(found[0].startswith("tls: "), found)

    def test_checks_that_there_is_a_password(self) -> None:
        """An empty file would be a login without a password."""
        path = self.write("password", "\n")
        text = f'relayhost_login = "you"\nrelayhost_password_file = "{path}"'
        text = f'{HOST}[delivery]\nrelayhost = "isp.example"\n{text}'
        found = config.check(parse(text, path))
        self.assertIn("holds no password", found[-1])

    def test_checks_the_accounts(self) -> None:
        """A mistake in accounts.toml is found by `check`."""
        path = self.write("accounts.toml", '[[account]]\nlogin = "you"')
        found = config.check(parse(f'{HOST}[accounts]\nfile = "{path}"', path))
        self.assertIn("accounts.file", found[-1])
        self.assertIn("full address", found[-1])

    def test_checks_the_signing_keys(self) -> None:
        """A key that is not there, or is none, is named with its [[dkim]]."""
        path = self.write("key.pem", "-----BEGIN NONSENSE-----")
        text = HOST + "".join(
            f'[[dkim]]\ndomain = "a.example"\nselector = "s"\nprivate_key = "{name}"\n'
            for name in (path, f"{path}.gone")
        )
        found = [line for line in config.check(parse(text, path)) if "dkim" in line]
        self.assertIn("dkim[1].private_key", found[0])
        self.assertIn("no private key in PEM form", found[0])
        self.assertIn("dkim[2].private_key", found[1])
        self.assertIn("cannot be read", found[1])

    def test_checks_the_length_of_the_state_dir(self) -> None:
        """A path that leaves no room for a socket's name is found before the start."""
        for length, found in ((94, 0), (95, 1)):
            text = f'{HOST}state_dir = "/{"x" * (length - 1)}"'
            lines = config.check(parse(text, "/nonexistent/x"))
            self.assertEqual(sum("is too long" in line for line in lines), found)

    def test_needs_no_accounts_where_nobody_logs_in(self) -> None:
        """A server with relay listeners only has no accounts."""
        relay = '[[listener]]\nservice = "relay"\naddress = "127.0.0.1:25"\n'
        found = config.check(parse(HOST + relay, "/nonexistent/x"))
        self.assertEqual([line for line in found if "accounts" in line], [])


class MeaningTests(SynchronousTestCase):
    """What the configuration means to the rooms."""

    def test_has_the_actions_of_the_checks(self) -> None:
        """Each check of ours has its key; test strings are left to real scanners."""
        self.assertEqual(settings.actions_of(parse(HOST, "x")), RULES)
        text = HOST + '[scan]\nclamd = "unix:/c"\n[scan.rules]\noffice_macro = "reject"'
        actions = settings.actions_of(parse(text, "x"))
        self.assertEqual(
            (actions["eicar"], actions["gtube"], actions["office-macro"]),
            ("off", "reject", "reject"),
        )
        text = HOST + '[scan]\nspamd = "unix:/s"'
        self.assertEqual(settings.actions_of(parse(text, "x"))["gtube"], "off")

    def test_has_the_defaults_of_the_rules(self) -> None:
        """Defaults here and in the rules are the same."""
        given = parse(HOST, "x")
        self.assertEqual(settings.policy_of(given), SubmissionPolicy())
        self.assertEqual(settings.schedule_of(given), RetrySchedule())
        self.assertEqual(settings.agent_of(given).timeouts, Timeouts())

    def test_reads_the_postmaster(self) -> None:
        """The postmaster's address is a mailbox."""
        given = parse(HOST + 'postmaster = "you@example.com"', "x")
        self.assertEqual(given.postmaster, Mailbox("you", "example.com"))

    def test_gives_the_rule_table(self) -> None:
        """The rules for replies come with the program."""
        self.assertGreater(len(config.rule_table().rules), 20)


_COMMENTED = re.compile(r'# (?=\[|[a-z_0-9]+ = |"[^"]+" = )')


class DocumentedTests(SynchronousTestCase):
    """`etc/fwdmta.toml` documents every key, with its true default."""

    @override
    def setUp(self) -> None:
        """Read the file, as it is and with every example taken in."""
        self.text = (ETC / "fwdmta.toml").read_text("utf-8")
        self.whole = _COMMENTED.sub("", self.text)

    def test_as_it_is_it_is_the_default(self) -> None:
        """The file as it comes sets nothing but the hostname."""
        given = parse(self.text, "/etc/fwdmta/fwdmta.toml")
        self.assertEqual(given, Configuration(hostname="mail.example.com"))

    def test_without_comment_marks_it_is_right(self) -> None:
        """Each line can be taken in by removing its mark."""
        given = parse(self.whole, "/etc/fwdmta/fwdmta.toml")
        self.assertEqual(len(given.listeners), 3)

    def test_it_has_every_key(self) -> None:
        """No setting is hidden."""
        named = {re.sub(r'"[^"]+"', "*", path) for path, _ in self.values()}
        self.assertEqual(sorted(named), sorted(KEYS))

    def test_each_default_is_true(self) -> None:
        """A line is an example, and says so, or shows the default."""
        shown = dict(self.values())
        for path, key in KEYS.items():
            if path.startswith("listener[]") or key.needed or key.default is None:
                continue
            self.assertEqual(shown[path], key.default, path)

    def test_each_example_says_so(self) -> None:
        """What has no default is marked as an example."""
        for path, key in KEYS.items():
            name = path.rpartition(".")[2]
            if name in {"*", "hostname", "service", "address"} or not (
                key.needed or key.default is None
            ):
                continue
            lines = re.findall(rf"^# {name} = .*# example", self.text, re.MULTILINE)
            self.assertTrue(lines, path)

    def values(self) -> list[tuple[str, Any]]:
        """Every key of the file with its value, as in KEYS."""
        return list(_walk(tomllib.loads(self.whole), ""))


def _walk(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        for name, below in value.items():
            quoted = f'"{name}"' if not name.replace("_", "").isalnum() else name
            yield from _walk(below, f"{path}.{quoted}" if path else quoted)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for below in value:
            yield from _walk(below, f"{path}[]")
    else:
        yield path, value
