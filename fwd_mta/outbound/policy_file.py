"""MTA-STS policies over a restart: a small file, replaced whole.

Without it a restart would be the moment at which an attacker who holds DNS is believed.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock

from fwd_mta.events import Emit, Trouble
from fwd_mta.interfaces import Disk, Worker
from fwd_mta.outbound.policies import Policies
from fwd_mta.rules.sts import Mode, Policy


class PolicyFile:
    """Reads what was kept, and keeps every policy that is fetched."""

    def __init__(self, path: str, disk: Disk, worker: Worker, emit: Emit) -> None:
        self._path = path
        self._disk = disk
        self._worker = worker
        self._emit = emit
        self._turn = DeferredLock()

    async def start(self, policies: Policies) -> None:
        """Take in what was kept; from now on each change is written."""
        try:
            content = await self._worker.run(self._read)
            policies.remember(_parsed(json.loads(content)) if content else {})
        except Exception as error:  # noqa: BLE001 - mail must go on
            self._say("read", error, "policies are fetched anew")
        policies.on_change = lambda: self._turn.run(self._write_now, policies)

    def _write_now(self, policies: Policies) -> Deferred[None]:
        return Deferred.fromCoroutine(self._write(policies))

    async def _write(self, policies: Policies) -> None:
        kept = {
            domain: {
                "id": identity,
                "until": until,
                "mode": policy.mode.value,
                "max_age": policy.max_age,
                "mx": list(policy.names),
            }
            for domain, (identity, until, policy) in policies.known().items()
        }
        octets = json.dumps(kept).encode()
        try:
            await self._worker.run(lambda: self._replace(octets))
        except Exception as error:  # noqa: BLE001 - mail must go on
            self._say("written", error, "it is tried with the next policy")

    def _say(self, what: str, error: Exception, cure: str) -> None:
        words = f"{self._path} cannot be {what}: {type(error).__name__}: {error}"
        self._emit(Trouble("mta-sts", words, cure))

    def _read(self) -> bytes:
        if not self._disk.exists(self._path):
            return b""
        file = self._disk.open(self._path)
        try:
            return file.read_at(0, file.size())
        finally:
            file.close()

    def _replace(self, octets: bytes) -> None:
        directory, aside = self._path.rpartition("/")[0], self._path + ".new"
        self._disk.make_directory(directory)
        self._disk.sync_directory(directory.rpartition("/")[0])
        with suppress(FileNotFoundError):
            self._disk.remove(aside)
        file = self._disk.create(aside)
        try:
            file.append(octets)
            file.sync()
        finally:
            file.close()
        self._disk.rename(aside, self._path)
        self._disk.sync_directory(directory)


def _parsed(kept: Mapping[str, Any]) -> dict[str, tuple[str, float, Policy]]:
    return {
        domain: (
            str(one["id"]),
            float(one["until"]),
            Policy(Mode(one["mode"]), int(one["max_age"]), tuple(map(str, one["mx"]))),
        )
        for domain, one in kept.items()
    }
