"""From a connected socket to a host that takes mail: greeting, EHLO, TLS, AUTH."""

from dataclasses import dataclass

from fwd_mta.mail.entry import Stage
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.route import TlsLevel, TlsMode
from fwd_mta.net.tls import ClientTls
from fwd_mta.outbound.connection import Broken, Connection, Trouble
from fwd_mta.rules import security
from fwd_mta.rules.security import Course


@dataclass(frozen=True, slots=True)
class Terms:
    """What a connection must come to before mail goes over it.

    `failed_before`: a handshake with this host failed earlier in this attempt.
    """

    tls: TlsLevel = TlsLevel.MAY
    tls_mode: TlsMode = TlsMode.STARTTLS
    failed_before: bool = False
    lmtp: bool = False
    login: str | None = None
    password: str | None = None


class NotOpened(Exception):
    """The host cannot be used now: its refusal, or a trouble, and where it came."""

    def __init__(
        self, stage: Stage, reply: Reply | None, trouble: Trouble | None
    ) -> None:
        super().__init__(stage.value, str(reply or trouble))
        self.stage = stage
        self.reply = reply
        self.trouble = trouble


class Opening:
    """One opening dialogue; `stage` is how far it has come."""

    def __init__(
        self, connection: Connection, terms: Terms, creator: ClientTls
    ) -> None:
        self.stage = Stage.GREETING
        self._connection = connection
        self._terms = terms
        self._creator = creator

    async def run(self) -> None:
        """Reach the terms or raise NotOpened."""
        try:
            await self._run()
        except Broken as broken:
            raise NotOpened(self.stage, None, broken.trouble) from None

    async def _run(self) -> None:
        connection, terms = self._connection, self._terms
        if terms.tls_mode is TlsMode.IMPLICIT:
            self.stage = Stage.STARTTLS
            await connection.shake_hands(self._creator)
            self._verify()
        self.stage = Stage.GREETING
        self._positive(await connection.greeting())
        await self._hello()
        if terms.tls_mode is TlsMode.STARTTLS:
            await self._secure()
        if terms.login is not None:
            self.stage = Stage.AUTH
            password = terms.password or ""
            self._positive(await connection.log_in(terms.login, password))

    async def _hello(self) -> None:
        self.stage = Stage.HELLO
        self._positive(await self._connection.hello(lmtp=self._terms.lmtp))

    async def _secure(self) -> None:
        connection, terms = self._connection, self._terms
        offered = connection.offered.offers("STARTTLS")
        course = security.before_tls(
            terms.tls, offered=offered, failed_before=terms.failed_before
        )
        if course is Course.PROCEED:
            return
        self.stage = Stage.STARTTLS
        if course is Course.NEXT_HOST:
            trouble = Trouble("tls-required", "the host does not offer STARTTLS")
            raise NotOpened(self.stage, None, trouble)
        reply = await connection.start_tls(self._creator)
        if reply.code == 220:
            self._verify()
            await self._hello()
            return
        course = security.refused(terms.tls, permanent=reply.is_permanent)
        if reply.code == 421:
            course = Course.NEXT_HOST  # it closes (RFC 5321 3.8)
        if course is not Course.PROCEED:
            raise NotOpened(self.stage, reply, None)

    def _verify(self) -> None:
        fault = self._connection.tls_fault
        if security.verified(self._terms.tls, fault) is Course.NEXT_HOST:
            raise NotOpened(self.stage, None, Trouble("tls-failed", fault or ""))

    def _positive(self, reply: Reply) -> None:
        if reply.is_positive:
            return
        if reply.code // 100 == 3:
            trouble = Trouble("protocol", f"{self.stage.value} was answered {reply}")
            raise NotOpened(self.stage, None, trouble)
        raise NotOpened(self.stage, reply, None)
