"""What we say to clients: the fixed replies of a session, and what their TLS did.

SPEC section 2 is the table behind them.
"""

from fwd_mta.inbound.limits import waiting_time
from fwd_mta.mail.errors import MailError
from fwd_mta.mail.reply import Reply

OK = Reply(250, "0.0", "Ok")
EHLO_FIRST = Reply(503, "5.1", "Say EHLO first")
MAIL_FIRST = Reply(503, "5.1", "Say MAIL first")
CHUNKS_BEGUN = Reply(503, "5.1", "BDAT has begun: more BDAT, BDAT LAST or RSET")
CHUNKS_NEED_EHLO = Reply(503, "5.1", "BDAT was not offered: say EHLO, not HELO")
NO_ARGUMENT = Reply(501, "5.4", "This command takes no argument")
UNKNOWN = Reply(500, "5.2", "Unknown command")
NOT_HERE = Reply(502, "5.1", "This command is not available here")
STARTTLS_FIRST = Reply(530, "7.0", "Say STARTTLS first: mail needs an encrypted line")
LOG_IN_FIRST = Reply(530, "7.0", "Authentication required: log in first")
NOT_THE_WEB = Reply(500, "5.2", "This is a mail server, not a web server: closing")
NOT_TRUSTED = Reply(554, "7.1", "Your network may not send mail here")
AUTH_NEEDS_TLS = Reply(538, "7.11", "Say STARTTLS first: AUTH needs an encrypted line")
AUTH_MALFORMED = Reply(501, "5.2", "Not a valid authentication response")
LOGGED_IN = Reply(503, "5.1", "You are logged in already")
NO_MECHANISM = Reply(501, "5.4", "Say AUTH and a mechanism, such as PLAIN")
UNKNOWN_MECHANISM = Reply(504, "5.4", "Unknown mechanism; EHLO tells which are offered")
TOO_MANY_FAILURES = Reply(421, "7.0", "Too many failed logins, closing")
TOO_MANY_ERRORS = Reply(421, "7.0", "Too many errors, closing")
TOO_OLD = Reply(421, "3.2", "This session is a day old: connect anew")
TOO_MANY_IDLE = Reply(421, "7.0", "Too many commands without a message, closing")
TOO_MANY_SESSIONS = Reply(421, "7.0", "Too many connections at once, try again later")
CONTENT_REFUSED = Reply(421, "5.1", "Mail data came although DATA was refused, closing")
SHUTTING_DOWN = Reply(421, "3.2", "Server is shutting down, try again later")
NO_POSTMASTER = Reply(550, "1.1", "There is no postmaster mailbox here")
BEHIND_STARTTLS = Reply(554, "7.0", "Bytes behind STARTTLS came in clear, closing")
WANTS_TLS = Reply(
    421,
    "7.0",
    "This port speaks TLS from the first byte: choose SSL/TLS, not STARTTLS or none",
)

_CURE = "speaks TLS from the first byte: set the client to SSL/TLS, not STARTTLS"

CLEAR_TEXT = f"clear text on a port that {_CURE}"

# What OpenSSL calls it, our word for it, what it means to who set up the client
TLS_MISTAKES = (
    (
        ("http request", "wrong version number", "unknown protocol", "packet length"),
        "clear-text",
        CLEAR_TEXT,
    ),
    (
        ("unsupported protocol", "no shared cipher", "version too low"),
        "too-old",
        "the client's TLS is too old: TLS 1.2 or newer is needed",
    ),
    (
        ("unknown ca", "certificate unknown", "bad certificate"),
        "untrusted",
        "the client does not trust our certificate",
    ),
)
NO_HANDSHAKE = "no TLS handshake in time after STARTTLS"
NO_TLS = f"no TLS handshake in time; if it waits for a greeting: this port {_CURE}"
HELLO_IN_CLEAR = (
    "a TLS hello on a port that begins in clear: the client must be set to STARTTLS"
    " here, or use port 465"
)


def guessing(seconds: float) -> Reply:
    """For a client that has tried too many passwords."""
    text = f"Too many wrong passwords from your address: wait {waiting_time(seconds)}"
    return Reply(454, "7.0", text)


def far_over(limit: int) -> Reply:
    """For content that is not worth waiting for its end.

    Not 421: the client would send all of it again, and again.
    """
    return Reply(552, "3.4", f"Message is far over {limit} octets, closing")


def fault(error: BaseException | None) -> str:
    """Name what broke, for the log: our own errors by their words.

    Others by type and place only, since their words may hold a secret (P8).
    """
    if isinstance(error, MailError):
        return f"{type(error).__name__}: {error}"
    where = error.__traceback__ if error else None
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    if where is None:
        return type(error).__name__
    file = where.tb_frame.f_code.co_filename.rpartition("/")[2]
    return f"{type(error).__name__} at {file}:{where.tb_lineno}"


def tls_mistake(error: BaseException | None) -> tuple[str, str]:
    """Name a failed handshake, and say what it means to who set up the client."""
    said = str(error).lower()
    for marks, name, meaning in TLS_MISTAKES:
        if any(mark in said for mark in marks):
            return name, meaning
    return "other", f"the TLS handshake failed: {str(error)[:200]}"
