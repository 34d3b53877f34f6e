"""DNS from plain tables: a resolver that answers at once and can be told to fail."""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from typing_extensions import override

from fwd_mta.interfaces import Answer, Resolver
from fwd_mta.mail.route import CannotSay, Exchanger, Found, NoSuchName

T = TypeVar("T")

_CHAIN = 16


class TableResolver(Resolver):
    """Names are keys in lower case, without a final dot; the maps may change any time.

    A name in no map does not exist; one in `failing` cannot be said now. A name in some
    other map answers NODATA. `aliases` are CNAMEs, `asked` lists the questions so far.
    """

    def __init__(
        self,
        exchangers: Mapping[str, Sequence[tuple[int, str]]] | None = None,
        addresses: Mapping[str, Sequence[str]] | None = None,
        failing: Collection[str] = (),
        aliases: Mapping[str, str] | None = None,
        texts: Mapping[str, Sequence[str]] | None = None,
        tlsa: Mapping[str, Sequence[bytes]] | None = None,
        *,
        secure: bool = False,
    ) -> None:
        self._exchangers = {} if exchangers is None else exchangers
        self._addresses = {} if addresses is None else addresses
        self._failing = failing
        self._aliases = {} if aliases is None else aliases
        self._texts = {} if texts is None else texts
        self._tlsa = {} if tlsa is None else tlsa
        self._secure = secure
        self.asked: list[tuple[str, str]] = []

    @override
    async def exchangers(self, domain: str) -> Answer[Exchanger]:
        """MX records."""
        records = {
            name: [Exchanger(preference, host) for preference, host in found]
            for name, found in self._exchangers.items()
        }
        return self._answer("MX", domain, records)

    @override
    async def addresses(self, host: str) -> Answer[str]:
        """A and AAAA records, A first."""
        records = {
            name: sorted(found, key=lambda address: ":" in address)
            for name, found in self._addresses.items()
        }
        return self._answer("A", host, records)

    @override
    async def tlsa(self, host: str, port: int) -> Answer[bytes]:
        """TLSA records; their names are as in the DNS, "_25._tcp.host"."""
        return self._answer("TLSA", f"_{port}._tcp.{host}", self._tlsa)

    @override
    async def text(self, name: str) -> Answer[str]:
        """TXT records."""
        return self._answer("TXT", name, self._texts)

    def _answer(
        self, kind: str, name: str, records: Mapping[str, Sequence[T]]
    ) -> Answer[T]:
        name = name.lower().removesuffix(".")
        self.asked.append((kind, name))
        asked = name
        for _ in range(_CHAIN):
            if name in self._failing:
                return CannotSay(name, "the server answered SERVFAIL")
            if name not in self._aliases:
                break
            name = self._aliases[name]
        else:
            return CannotSay(name, "the chain of aliases is too long")
        if not self._exists(name):
            return NoSuchName(name)
        found = tuple(records.get(name, ()))
        return Found(found, self._secure, None if name == asked else name)

    def _exists(self, name: str) -> bool:
        maps = (self._exchangers, self._addresses, self._texts, self._tlsa)
        return any(name in names for names in maps)
