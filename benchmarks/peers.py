"""How each server under test is configured and started, in the foreground."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import serve

_HERE = os.path.dirname(os.path.abspath(__file__))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer lives: its folder, its port on loopback, its next hops.

    `sink` takes all mail but that for defer.example, which goes to `dead`, where
    nobody listens. With a certificate (PEM, key included) it speaks implicit TLS and
    takes mail from u@bench.example with the password p only.
    """

    folder: str
    port: int
    sink: int
    dead: int
    certificate: str | None


Recipe = Callable[[Place], list[str]]


def fwdmta(place: Place) -> list[str]:
    """Us, as twistd runs us."""
    return [sys.executable, f"{_HERE}/serve.py", *serve.arguments(place)]


def without(place: Place) -> list[str]:
    """Us, with neither index nor figures."""
    return [*fwdmta(place), "--no-index"]


def watched(place: Place) -> list[str]:
    """Us, with index and figures."""
    return [*fwdmta(place), "--metrics"]


def postfix(place: Place) -> list[str]:
    """Postfix as Debian sets it up."""
    return _postfix(place, "")


# what an administrator turns on for a loaded relay; durability stays as it is
_TUNED = """in_flow_delay = 0
default_process_limit = 200
smtp_destination_concurrency_limit = 40
default_destination_concurrency_limit = 40
initial_destination_concurrency = 20
qmgr_message_active_limit = 20000
qmgr_message_recipient_limit = 20000
"""


def postfix_tuned(place: Place) -> list[str]:
    """Postfix as a relay under load is run: what all ratios are to."""
    return _postfix(place, _TUNED)


_MAIN = """compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = bench.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:{sink}
transport_maps = inline:{{ defer.example=smtp:[127.0.0.1]:{dead} }}
alias_maps =
alias_database =
smtp_tls_security_level = none
message_size_limit = 52428800
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
"""
_TLS = """smtpd_tls_security_level = encrypt
smtpd_tls_wrappermode = yes
smtpd_tls_chain_files = {certificate}
smtpd_sasl_auth_enable = yes
smtpd_sasl_local_domain = bench.example
cyrus_sasl_config_path = {folder}/etc/sasl
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
"""
_SASL = """pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {folder}/etc/sasldb2
mech_list: PLAIN
"""
_MASTER = """127.0.0.1:{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
"""


def _postfix(place: Place, extra: str) -> list[str]:
    folder = place.folder
    fields = {name: getattr(place, name) for name in Place.__slots__}
    for name in ("etc/sasl", "queue", "data"):
        os.makedirs(f"{folder}/{name}")
    shutil.chown(f"{folder}/data", "postfix")
    if place.certificate is not None:
        extra += _TLS.format(**fields)
        serve.write(f"{folder}/etc/sasl/smtpd.conf", _SASL.format(**fields))
        database = f"{folder}/etc/sasldb2"
        command = ["saslpasswd2", "-c", "-p", "-f", database]
        command += ["-u", "bench.example", "u"]
        subprocess.run(command, input=b"p", check=True)
        shutil.chown(database, "postfix")
    serve.write(f"{folder}/etc/main.cf", _MAIN.format(**fields) + extra)
    serve.write(f"{folder}/etc/master.cf", _MASTER.format(**fields))
    return ["postfix", "-c", f"{folder}/etc", "start-fg"]
