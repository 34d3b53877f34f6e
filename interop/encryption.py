"""Scenarios of TLS: two scanners, clients set up wrongly, certbot's certificates."""

import json
import signal
import smtplib
import socket
import ssl
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self
from xml.etree import ElementTree as ET

from interop.guide import HOST, own_address
from interop.kit import (
    Workbench,
    expect,
    expect_in,
    free_port,
    is_listening,
    wait_for,
)
from interop.machine import Machine
from interop.messages import PASSWORD, SENDER, plain
from interop.server import Server
from interop.sink import Sink

_INBOX = "reader@inbox.example"
_HOOK = Path(__file__).parents[1] / "etc" / "certbot" / "fwdmta"


# Scanners

# testssl.sh's names, and what it must say of each
_NOT_OFFERED = (
    *("SSLv2", "SSLv3", "TLS1", "TLS1_1", "cipherlist_NULL", "cipherlist_aNULL"),
    *("cipherlist_EXPORT", "cipherlist_LOW", "cipherlist_3DES_IDEA"),
    "cipherlist_AVERAGE",
)
_OFFERED = ("TLS1_2", "TLS1_3", "cipherlist_STRONG")
_BAD = {"LOW", "MEDIUM", "HIGH", "CRITICAL"}


def scanned(bench: Workbench) -> None:
    """testssl.sh and nmap find on both ports TLS 1.2 and 1.3, and no weak suite."""
    server = bench.keep(Server(bench, {}, address=own_address(), name=HOST))
    with ThreadPoolExecutor(2) as pool:
        for port, found in zip(
            (465, 587),
            pool.map(lambda port: _testssl(bench, server, port), (465, 587)),
            strict=True,
        ):
            _judge(found, port)
    _nmap(server)


def _testssl(bench: Workbench, server: Server, port: int) -> dict[str, tuple[str, str]]:
    """What testssl.sh finds on a port: severity and words by its own names."""
    report = bench.folder / f"testssl-{port}.json"
    how = ["--starttls", "smtp"] if port == 587 else []
    done = subprocess.run(
        [
            *("testssl", "--warnings", "off", "--color", "0", "--quiet"),
            *("-p", "-s", "--nodns", "none", "--ip", server.address),
            *("--jsonfile", str(report), *how, f"{HOST}:{port}"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    (bench.folder / f"testssl-{port}.log").write_text(done.stdout, encoding="utf-8")
    found = json.loads(report.read_text(encoding="utf-8"))
    return {one["id"]: (one["severity"], one["finding"]) for one in found}


def _judge(found: dict[str, tuple[str, str]], port: int) -> None:
    for name in _NOT_OFFERED:
        said = found.get(name, ("", "nothing"))[1]
        expect(said == "not offered", f"testssl.sh on {port}: {name}: {said}")
    for name in _OFFERED:
        said = found.get(name, ("", "nothing"))[1]
        expect(said.startswith("offered"), f"testssl.sh on {port}: {name}: {said}")
    bad = {name: one for name, one in found.items() if one[0] in _BAD}
    expect(not bad, f"testssl.sh on {port}: {bad}")
    fine = sum(severity == "OK" for severity, _ in found.values())
    print(f"     testssl.sh on {port}: {fine} findings OK, none worse than INFO")


def _nmap(server: Server) -> None:
    """Every suite that nmap finds on both ports has its best mark."""
    words = ("-Pn", "-n", "-p", "465,587", "--script", "+ssl-enum-ciphers", "-oX", "-")
    done = subprocess.run(
        ["nmap", *words, server.address],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    ports = list(ET.fromstring(done.stdout).iter("port"))
    expect(len(ports) == 2, f"nmap saw {len(ports)} ports: {done.stdout[-500:]}")
    for port in ports:
        number = port.get("portid")
        strength = [
            one.text for one in port.iter("elem") if one.get("key") == "strength"
        ]
        expect(len(strength) > 2, f"nmap on {number}: {len(strength)} suites")
        expect(set(strength) == {"A"}, f"nmap on {number}: {strength}")
        versions = {str(one.get("key")) for one in port.iter("table")}
        old = {"SSLv3", "TLSv1.0", "TLSv1.1"} & versions
        expect(not old, f"nmap on {number}: {old}")
        print(f"     nmap on {number}: {len(strength)} suites, least strength A")


# Clients that are set up wrongly


def mistaken(bench: Workbench) -> None:
    """Wrong port, wrong mode, TLS too old: one log line each names the mistake."""
    server = bench.keep(Server(bench, {}, address=own_address(), name=HOST))
    _in_clear(server)
    _one_line(server, "clear text on a port that speaks TLS from the first byte")
    with socket.create_connection((server.address, 587), timeout=30) as raw:
        context = ssl.create_default_context()
        try:
            context.wrap_socket(raw, server_hostname=HOST)
        except ssl.SSLError as error:
            expect_in("WRONG_VERSION_NUMBER", str(error), "what the client sees")
    _one_line(server, "a TLS hello on a port that begins in clear")
    for number, port in enumerate((465, 587), 1):
        said = _too_old(server, port)
        expect_in("alert protocol version", said, f"TLS 1.0 on {port}, openssl")
        _one_line(server, "the client's TLS is too old", number)


def _in_clear(server: Server) -> None:
    """EHLO in clear on 465."""
    with socket.create_connection((server.address, 465), timeout=30) as raw:
        raw.sendall(b"EHLO client.example\r\n")
        while raw.recv(1024):
            pass


def _too_old(server: Server, port: int) -> str:
    """What OpenSSL says that may speak TLS 1.0 only."""
    mode = ("-starttls", "smtp") if port == 587 else ()
    where = ("-connect", f"{server.address}:{port}", "-servername", HOST)
    old = ("-tls1", "-cipher", "ALL:@SECLEVEL=0")
    done = subprocess.run(
        ["openssl", "s_client", *where, *old, *mode],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def _one_line(server: Server, words: str, count: int = 1) -> None:
    """So many lines of the log name the mistake, and with it the client's address."""

    def lines() -> list[str]:
        return [line for line in server.logged().splitlines() if words in line]

    wait_for(f"the log says: {words}", lambda: len(lines()) >= count)
    expect(len(lines()) == count, f"{len(lines())} lines say: {words}")
    expect_in("client=127.0.0.1 ", lines()[-1], "the line")


# Certificates by certbot

_RENEW = ("renew", "--force-renewal", "--no-random-sleep-on-renew")


class _Pebble:
    """An authority of ACME: Let's Encrypt's own test server."""

    def __init__(self, bench: Workbench, machine: Machine) -> None:
        self.port, self.http = free_port(), free_port()
        self._manage = free_port()
        self._folder = bench.folder / "pebble"
        self._folder.mkdir()
        self._trusted = bench.authority.certificate
        chain, key = self._folder / "chain.pem", self._folder / "key.pem"
        bench.authority.issue(chain, key)
        self._write(chain, key)
        self._machine = machine
        self._log = bench.folder / "pebble.log"
        self._process: subprocess.Popen[bytes] | None = None

    def _write(self, chain: Path, key: Path) -> None:
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self._manage}",
            "certificate": str(chain),
            "privateKey": str(key),
            "httpPort": self.http,
            "tlsPort": free_port(),
            "ocspResponderURL": "",
        }
        text = json.dumps({"pebble": settings})
        (self._folder / "pebble.json").write_text(text, encoding="ascii")

    def __enter__(self) -> Self:
        """Start it; it lives as long as its standard input is open."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._machine.words(
                    "pebble", "-config", self._folder / "pebble.json", "-strict"
                ),
                env=self._machine.environment(self._folder, PEBBLE_VA_NOSLEEP="1"),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for("pebble listens", lambda: is_listening("127.0.0.1", self.port))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def root(self) -> ssl.SSLContext:
        """A context that trusts what it issues, and nothing else."""
        ours = ssl.create_default_context(cafile=self._trusted)
        address = f"https://localhost:{self._manage}/roots/0"
        with urllib.request.urlopen(address, timeout=30, context=ours) as page:
            return ssl.create_default_context(cadata=page.read().decode("ascii"))


def certbot(bench: Workbench) -> None:
    """Certbot gets and renews a certificate; a session that is open notices nothing."""
    address = own_address()
    machine = Machine(bench, {HOST: address})
    pebble = bench.keep(_Pebble(bench, machine))
    sink = bench.keep(Sink())
    way_out = {"delivery": f'relayhost = "[127.0.0.1]:{sink.port}"'}
    server = Server(bench, way_out, address=address, name=HOST)
    tls = server.folder / "tls"
    text = server.configuration.read_text(encoding="utf-8")
    text = text.replace(f"{server.folder}/chain.pem", f"{tls}/fullchain.pem")
    server.configure(text.replace(f"{server.folder}/key.pem", f"{tls}/privkey.pem"))
    tell = f"FWDMTA_CONFIG={server.configuration}", f"FWDMTA_TLS={tls}"
    _certbot(
        bench, machine, pebble, *_obtain(address), hook=(*tell, "FWDMTA_RELOAD=true")
    )
    bench.keep(server)
    session, first = _session(address, pebble.root())
    reload = f"FWDMTA_RELOAD=kill -{signal.SIGHUP.value} {server.pid}"
    _certbot(bench, machine, pebble, *_RENEW, hook=(*tell, reload))

    def renewed() -> bool:
        other, serial = _session(address, pebble.root())
        other.quit()
        return serial != first

    wait_for("the renewed certificate is shown", renewed)
    session.login(SENDER, PASSWORD)
    session.sendmail(SENDER, _INBOX, plain(_INBOX, "across-a-renewal"))
    session.quit()
    sink.wait_for(1)
    mode = (tls / "privkey.pem").stat().st_mode & 0o777
    expect(mode == 0o640, f"the key's mode is {mode:o}")


def _obtain(address: str) -> tuple[str, ...]:
    mail = ("--agree-tos", "-m", "postmaster@your-domain.com", "--no-eff-email")
    return (
        *("certonly", "--standalone", "--http-01-address", address, "-d", HOST, *mail),
        *("--deploy-hook", str(_HOOK)),
    )


def _certbot(
    bench: Workbench,
    machine: Machine,
    pebble: _Pebble,
    *words: str,
    hook: tuple[str, ...],
) -> None:
    """Run certbot in folders of the scenario."""
    folder = bench.folder / "certbot"
    folder.mkdir(exist_ok=True)
    places = [
        word
        for name in ("config", "work", "logs")
        for word in (f"--{name}-dir", str(folder / name))
    ]
    server = f"https://localhost:{pebble.port}/dir"
    ports = ("--http-01-port", str(pebble.http), "--server", server)
    settings = dict(each.split("=", 1) for each in hook)
    done = machine.run(
        *("certbot", "--non-interactive", *places, *ports, *words),
        folder=folder,
        REQUESTS_CA_BUNDLE=str(machine.authority),
        FWDMTA_GROUP="root",
        **settings,
    )
    expect(done.status == 0, f"certbot {words[0]}: {done.said[-1500:]}")


class _Named(smtplib.SMTP_SSL):
    """A session whose server is known by its name, though it is reached by address."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        super().__init__(timeout=30, context=context)
        self._host = HOST
        self.connect(address, 465)


def _session(address: str, trusted: ssl.SSLContext) -> tuple[smtplib.SMTP, str]:
    """A verified session, and the serial number it was shown."""
    session = _Named(address, trusted)
    sock = session.sock
    shown = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    session.ehlo()
    return session, str((shown or {}).get("serialNumber"))
