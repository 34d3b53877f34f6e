"""One attempt to send with one client, and the message for those that make none."""

from dataclasses import dataclass
from pathlib import Path

from interop.machine import Machine, Outcome

RECIPIENT = "recipient@example.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One attempt: the printed text, and what goes with it."""

    machine: Machine
    folder: Path
    libraries: Path
    text: str
    host: str
    port: int
    login: str
    sender: str
    password: str

    def write(self, name: str, text: str) -> Path:
        """Put a file into its folder, readable by its owner alone."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        return path

    def run(self, *command: str | Path, typed: str = "", **more: str) -> Outcome:
        """Run a command where it all lies, with the password in its environment."""
        more["SMTP_PASSWORD"] = self.password
        return self.machine.run(*command, folder=self.folder, typed=typed, **more)


def message(word: str, sender: str) -> str:
    """A whole message for those programs that are handed one."""
    return (
        f"From: Your Name <{sender}>\n"
        f"To: {RECIPIENT}\n"
        f"Subject: Hello from {word}\n"
        "MIME-Version: 1.0\n"
        'Content-Type: multipart/alternative; boundary="part"\n'
        "\n"
        "--part\n"
        "Content-Type: text/plain; charset=utf-8\n"
        "\n"
        f"Hello world! This is a test email sent using {word}.\n"
        "--part\n"
        "Content-Type: text/html; charset=utf-8\n"
        "\n"
        f"<b>Hello world!</b> This is a test email sent using {word}.\n"
        "--part--\n"
    )
