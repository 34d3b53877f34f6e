"""The messages that are sent, each as the exact octets of its content."""

SENDER = "you@sender.example"
PASSWORD = "correct horse battery staple"


def plain(recipient: str, name: str, sender: str = SENDER) -> bytes:
    """A short message that has every field a server might want to add."""
    return (
        _head(recipient, name, sender)
        + b"Hello.\r\n\r\nThis is "
        + (name.encode() + b".\r\n")
    )


def dotted(recipient: str, name: str) -> bytes:
    """A message of dots at every edge, lone dots and 8-bit text, some 300 kB long.

    Its runs have periods of 3, 4, 5 and 7 octets, so that every size of chunk that
    is a power of two cuts each of them at every place.
    """
    runs = (
        b".\r\n" * 20_000,
        b"..\r\n" * 20_000,
        b".a.\r\n" * 10_000,
        "..ä.\r\n".encode() * 10_000,
    )
    return (
        _head(recipient, name, SENDER, charset="utf-8")
        + b".\r\n..\r\n...\r\n.leading\r\n..leading\r\n\r\n.\r\n"
        + b"".join(runs)
        + "Grüße, привет, 你好\r\n.".encode()
        + b"x" * 990
        + b"\r\n.\r\n\r\n.\r\n"
    )


def latin(recipient: str, name: str) -> bytes:
    """A message whose 8-bit body is no UTF-8."""
    return _head(recipient, name, SENDER, charset="iso-8859-1") + bytes(
        octet for octet in range(0x20, 0x100) if octet != 0x7F
    ).join((b".", b"\r\n.\r\n"))


def message_id(name: str) -> str:
    """The Message-ID of the message of that name."""
    return f"<{name}@interop.example>"


def _head(recipient: str, name: str, sender: str, charset: str = "us-ascii") -> bytes:
    encoding = "7bit" if charset == "us-ascii" else "8bit"
    return (
        f"From: Interop <{sender}>\r\n"
        f"To: {recipient}\r\n"
        f"Subject: {name}\r\n"
        "Date: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
        f"Message-ID: {message_id(name)}\r\n"
        "MIME-Version: 1.0\r\n"
        f"Content-Type: text/plain; charset={charset}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n"
        "\r\n"
    ).encode()
