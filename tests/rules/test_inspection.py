"""The built-in checks: bad examples and their good look-alikes, side by side."""

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.entry import Category
from fwd_mta.mail.scan import Verdict
from fwd_mta.rules.inspection import EICAR, GTUBE, RULES, report
from fwd_mta.rules.links import Doubt
from tests.rules.inspected import (
    ELF,
    HEAD,
    PROGRAM,
    attached,
    bomb,
    forwarded,
    html,
    inspect,
    locked,
    many,
    nested,
    rules,
    text,
    written,
    zipped,
)

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600
EICAR_TEXT, GTUBE_TEXT = EICAR.decode(), GTUBE.decode()


def link(url: str, shown: str = "here") -> bytes:
    """A message with one link."""
    return html(f'<p>Hi <a class="x" href="{url}">{shown}</a></p>')


# rule: messages that break it, messages that look alike and do not
TABLE: dict[str, tuple[list[bytes], list[bytes]]] = {
    "eicar": (
        [
            text(EICAR_TEXT),
            text(f"Hi,\r\n{EICAR_TEXT}"),
            attached("test.txt", EICAR),
            attached("test.bin", b"x" * 65_500 + EICAR),
            html(EICAR_TEXT),
        ],
        [text(EICAR_TEXT[:-1]), text("EICAR-STANDARD-ANTIVIRUS-TEST-FILE")],
    ),
    "gtube": (
        [text(GTUBE_TEXT), html(GTUBE_TEXT), attached("a.txt", GTUBE)],
        [text(GTUBE_TEXT[1:]), text("GTUBE"), text(GTUBE_TEXT.lower())],
    ),
    "executable-name": (
        [
            attached("setup.exe"),
            attached("SETUP.EXE"),
            attached("holiday.scr"),
            attached("run.bat"),
            attached("x.js"),
            attached("order.vbs"),
            attached("page.hta"),
            attached("link.lnk"),
            attached("größe.exe"),
            attached("setup.exe. "),
            written('attachment; filename="=?utf-8?Q?setup=2Eexe?="'),
            written("attachment; filename*=utf-8''setup%2Eexe"),
            written("attachment; filename*0=set; filename*1=up.exe"),
            written("inline; filename=setup.exe"),
            written("attachment; filename = setup.exe ; size=1"),
            written('attachment; filename="setup.exe'),
            HEAD + b'Content-Type: application/x; name="a.exe"\r\n\r\nx\r\n',
        ],
        [
            attached("report.pdf"),
            attached("setup.exe.txt"),
            attached("exe"),
            attached("notes about setup.exe - page 2.pdf"),
            attached("data.json"),
            attached("archive.tar.gz"),
            attached("script.py"),
            attached("mail.eml"),
            attached("key.asc"),
            attached("invite.ics"),
            attached("card.vcf"),
            text("Please run setup.exe"),
        ],
    ),
    "double-extension": (
        [
            attached("invoice.pdf.exe"),
            attached("photo.jpg.scr"),
            attached("invoice.pdf          .exe"),
            attached("letter.doc_____.js"),
            attached("invoice\u202efdp.exe"),
            attached("cv\u202ecod.txt"),
        ],
        [
            attached("invoice.pdf"),
            attached("report.v2.pdf"),
            attached("table.csv.gz"),
            attached("2026.11.24.docx"),
            attached("www.example.com.pdf"),
            attached("מסמך.pdf"),
        ],
    ),
    "executable-content": (
        [
            attached("holiday.jpg", PROGRAM),
            attached("tool", ELF),
            attached("tool", b"\xcf\xfa\xed\xfe" + b"\0" * 60),
            attached("note.txt", b"L\0\0\0\x01\x14\x02\0" + b"\0" * 60),
        ],
        [
            attached("names.txt", b"MZ and AB are initials. " * 9),
            attached("short", b"MZ"),
            attached("elf.txt", b"ELF is a format"),
            attached("photo.jpg", b"\xff\xd8\xff\xe0" + b"\0" * 60),
            attached("script.sh", b"#!/bin/sh\necho hi\n"),
            attached("A.class.txt", b"\xca\xfe\xba\xbe" + b"\0" * 60),
            text("MZ is how it starts"),
        ],
    ),
    "executable-in-archive": (
        [
            attached("a.zip", zipped("setup.exe")),
            attached("a.bin", zipped("readme.txt", "deep/er/page.hta")),
            attached("a.zip", zipped(*map(str, range(500)), "x.scr")),
        ],
        [
            attached("site.zip", zipped("index.html", "app.js", "gradlew.bat")),
            attached("a.zip", zipped("exe/readme.txt", "setup.exe.txt")),
            attached("a.docx", zipped("word/document.xml", "[Content_Types].xml")),
            attached("broken.zip", zipped("readme.txt")[:40]),
        ],
    ),
    "mime-bomb": (
        [
            many(1001),
            many(10_000),
            nested(31),
            nested(100),
            forwarded(100),
            attached("a.zip", bomb(5, 1_000_000_000)),
            HEAD
            + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
            + b"X: y\r\n" * 20_000,
        ],
        [
            many(900),
            nested(20),
            forwarded(20),
            attached("a.zip", zipped("zeros", content=b"\0" * 10_000_000)),
            attached("a.zip", bomb(3, 1_000_000_000)),
        ],
    ),
    "encrypted-archive": (
        [attached("a.zip", locked("a.txt"))],
        [attached("a.zip", zipped("a.txt")), attached("encrypted.zip.txt")],
    ),
    "display-name-address": (
        [
            text("Hi", '"ceo@bank.example" <ann@example.com>'),
            text("Hi", "=?utf-8?Q?ceo=40bank.example?= <ann@example.com>"),
            text("Hi", '"CEO (ceo@bank.example)" <ann@example.com>'),
        ],
        [
            text("Hi", '"ann@example.com" <ann@example.com>'),
            text("Hi", '"Ann@Example.com" <ann@example.com>'),
            text("Hi", "ann@example.com"),
            text("Hi", '"Ann @ Example" <ann@example.com>'),
            text("Hi", "ann@example.com, bob@example.org"),
        ],
    ),
    "link-mismatch": (
        [
            link("http://evil.example/", "www.bank.example"),
            link("http://evil.example/", "https://bank.example/login"),
            link("https://evil.example/bank.example", "<b>bank.example</b>"),
            link("https://bank.example.evil.example/", "bank.example.org"),
            html("<A HREF='http://evil.example'>bank.example</A>"),
        ],
        [
            link("https://www.bank.example/", "bank.example"),
            link("https://bank.example/login?x=1", "https://bank.example/login"),
            link("https://shop.bank.example/", "bank.example"),
            link("https://bank.example/", "Click here"),
            link("https://click.example/r?u=1", "Read more at our site."),
            link("https://files.example/1", "report.pdf"),
            link("mailto:ann@example.com", "example.org"),
            link("https://xn--bcher-kva.example/", "bücher.example"),
            link("https://x.example/?a=1&amp;b=2", "x.example/?a=1"),
        ],
    ),
    "mixed-script-host": (
        [
            link("https://p\u0430ypal.example/"),
            link("https://xn--pypal-4ve.example/"),
            text("https://g\u03bfogle.example/x"),
        ],
        [
            link("https://bücher.example/"),
            link("https://пример.example/"),
            link("https://xn--e1afmkfd.example/"),
            link("https://例え.example/"),
            text("https://example.com/путь"),
        ],
    ),
    "office-macro": (
        [
            attached("a.docm", zipped("word/document.xml", "word/vbaProject.bin")),
            attached("a.doc", OLE + "_VBA_PROJECT".encode("utf-16-le")),
        ],
        [
            attached("a.docx", zipped("word/document.xml")),
            attached("a.doc", OLE),
            attached("a.txt", b"vbaProject.bin"),
        ],
    ),
    "pdf-launch": (
        [attached("a.pdf", b"%PDF-1.7\n1 0 obj <</S /Launch /F (cmd.exe)>>")],
        [
            attached("a.pdf", b"%PDF-1.7\n1 0 obj <</S /URI>>"),
            attached("a.txt", b"/Launch"),
        ],
    ),
    "raw-address-link": (
        [
            link("http://8.8.8.8/x"),
            link("https://[2a00:1450::1]:8443/"),
            text("See http://8.8.8.8:8080/login now"),
        ],
        [
            link("http://192.168.1.1/"),
            text("http://127.0.0.1:8000/ on your machine"),
            text("The server 8.8.8.8 answers"),
            text("https://8.8.8.8.example/"),
        ],
    ),
}


class TableTests(SynchronousTestCase):
    """Every rule, with what breaks it and what only looks alike."""

    def test_every_rule_is_here(self) -> None:
        """A new rule comes with examples; there are a hundred and more."""
        self.assertEqual(sorted(TABLE), sorted(RULES))
        cases = sum(len(bad) + len(good) for bad, good in TABLE.values())
        self.assertGreaterEqual(cases, 100)

    def test_bad(self) -> None:
        """Each bad example breaks its rule."""
        for rule, (bad, _) in TABLE.items():
            for number, message in enumerate(bad, 1):
                self.assertIn(rule, rules(message), f"{rule} {number}")

    def test_good(self) -> None:
        """No look-alike breaks any rule at all."""
        for rule, (_, good) in TABLE.items():
            for number, message in enumerate(good, 1):
                self.assertEqual(inspect(message), (), f"{rule} {number}")

    def test_any_pieces(self) -> None:
        """The pieces a message comes in make no difference."""
        for rule, (bad, _) in TABLE.items():
            for message in bad:
                if len(message) > 20_000:
                    continue
                found = [inspect(message, size) for size in (1, 7, 100_000)]
                self.assertEqual(found[0], found[2], rule)
                self.assertEqual(found[1], found[2], rule)

    def test_a_base64_letter_out_of_place(self) -> None:
        """Letters that no decoder minds hide nothing."""
        message = attached("a.txt", EICAR * 3).replace(b"\r\nWDV", b"\r\n!W*D\tV")
        self.assertIn("eicar", rules(message))


class CleanTests(SynchronousTestCase):
    """Mail that people send breaks no rule that refuses."""

    def test_five_hundred_clean_messages(self) -> None:
        """Five hundred by chance: texts, pages, documents, archives, forwards."""
        chance = Random(3)  # noqa: S311 - repeatable on purpose
        makers = (_text, _page, _document, _archive, _forward)
        for number in range(500):
            message = chance.choice(makers)(chance)
            self.assertEqual(inspect(message), (), number)


def _words(chance: Random) -> str:
    words = [
        "Hei,",
        "here",
        "is",
        "the",
        "report",
        "--",
        "see",
        "www.example.com",
        "or",
        "page",
        "2;",
        "Grüße",
        "✓",
    ]
    lines = (" ".join(chance.choices(words, k=9)) for _ in range(chance.randrange(30)))
    return "\r\n".join(lines)


def _text(chance: Random) -> bytes:
    return text(_words(chance))


def _page(chance: Random) -> bytes:
    url = chance.choice(("https://www.example.com/a?b=c&amp;d", "http://example.org"))
    shown = chance.choice(("<b>More</b>", "our shop", url, "", "<img src=x>"))
    return html(f'<p>{_words(chance)}</p><a href="{url}">{shown}</a>')


def _document(chance: Random) -> bytes:
    names = ("report.pdf", "photo 1.jpg", "Überblick.xlsx", "notes.txt", "a.b.c.odt")
    content = chance.choice((b"%PDF-1.4\n", b"\xff\xd8\xff", zipped("xl/a.xml"), b""))
    return attached(chance.choice(names), content + chance.randbytes(5000))


def _archive(chance: Random) -> bytes:
    names = ("src/a.py", "app.js", "Makefile", "web/index.html", "run.sh", "x.dll.txt")
    packed = zipped(*chance.sample(names, 3), content=chance.randbytes(3000))
    return attached("project.zip", packed)


def _forward(chance: Random) -> bytes:
    inner = chance.choice((_text, _page, _document))(chance)
    boundary = b"=_%d" % chance.randrange(10**9)
    return (
        HEAD
        + b'Content-Type: multipart/mixed; boundary="%s"\r\n\r\n' % boundary
        + b"--%s\r\nContent-Type: message/rfc822\r\n\r\n" % boundary
        + inner
        + b"\r\n--%s--\r\n" % boundary
    )


class ReportTests(SynchronousTestCase):
    """`report` says what follows."""

    def test_actions(self) -> None:
        """What the operator wrote decides: reject, tag, note or nothing."""
        found = (Doubt("office-macro", "a.docm"), Doubt("pdf-launch", "b.pdf"))
        table = (
            ("reject", Verdict.REJECT, 550),
            ("tag", Verdict.TAG, 0),
            ("note", Verdict.ACCEPT, 0),
            ("off", Verdict.ACCEPT, 0),
        )
        for action, verdict, _ in table:
            given = report(found, {**RULES, "office-macro": action})
            self.assertIs(given.verdict, verdict)
            self.assertEqual("office-macro (a.docm)" in given.note, action != "off")
            self.assertIn("pdf-launch (b.pdf)", given.note)
            if action == "reject":
                self.assertIn("a.docm", given.reason)
            if action == "tag":
                self.assertEqual(given.fields, (("X-Fwdmta-Notes", "office-macro"),))

    def test_kinds(self) -> None:
        """The test strings count as virus and spam, all else as policy."""
        kinds = {"eicar": Category.VIRUS, "gtube": Category.SPAM}
        for rule in RULES:
            given = report((Doubt(rule, "x"),), dict.fromkeys(RULES, "reject"))
            self.assertIs(given.kind, kinds.get(rule, Category.POLICY))
            self.assertTrue(given.reason)

    def test_hostile_names(self) -> None:
        """A name goes into replies and lines escaped and bounded."""
        found = inspect(attached("a\u202e\x07" + "b" * 3000 + ".exe"))
        given = report(found, RULES)
        self.assertTrue(given.reason.isascii() and given.reason.isprintable())
        self.assertLess(len(given.reason), 300)
