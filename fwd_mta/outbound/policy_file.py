"""MTA-STS policies over a restart: a small file, replaced whole.

Without it a restart would be the moment at which an attacker who holds DNS is believed.
"""

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock

from fwd_mta.events import Emit, Trouble
from fwd_mta.interfaces import Disk, Worker
from fwd_mta.net.small_file import read_whole, replace_whole
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
            content = await self._worker.run(lambda: read_whole(self._disk, self._path))
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
            await self._worker.run(
                lambda: replace_whole(self._disk, self._path, octets)
            )
        except Exception as error:  # noqa: BLE001 - mail must go on
            self._say("written", error, "it is tried with the next policy")

    def _say(self, what: str, error: Exception, cure: str) -> None:
        words = f"{self._path} cannot be {what}: {type(error).__name__}: {error}"
        self._emit(Trouble("mta-sts", words, cure))


def _parsed(kept: Mapping[str, Any]) -> dict[str, tuple[str, float, Policy]]:
    return {
        domain: (
            str(one["id"]),
            float(one["until"]),
            Policy(Mode(one["mode"]), int(one["max_age"]), tuple(map(str, one["mx"]))),
        )
        for domain, one in kept.items()
    }
