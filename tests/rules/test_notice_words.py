"""Tests of the words of notices, language by language."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.entry import Category, NoticeKind
from fwd_mta.rules.notice_words import LANGUAGES, words_of
from tests.rules.notice_page import about, page, read, text

PAGE = Path(__file__).parents[2] / "docs" / "notices.md"


class WordsTests(SynchronousTestCase):
    """The catalogue is whole."""

    def test_every_language_has_every_text(self) -> None:
        """Each kind, each category, each form."""
        english = words_of("en")
        for language, words in LANGUAGES.items():
            self.assertEqual(set(words.subjects), set(NoticeKind), language)
            self.assertEqual(set(words.openings), set(NoticeKind), language)
            self.assertEqual(set(words.advice), set(english.advice), language)
            self.assertEqual(set(words.one), set(words.many), language)
            if words is not english:
                self.assertEqual(set(words.happened), set(Category), language)

    def test_no_language_has_words_of_another(self) -> None:
        """A text that was forgotten would be the English one."""
        english = words_of("en")
        for words in LANGUAGES.values():
            if words is english:
                continue
            for mine, theirs in (
                (words.subjects, english.subjects),
                (words.openings, english.openings),
                (words.advice, english.advice),
            ):
                self.assertFalse(set(mine.values()) & set(theirs.values()))

    def test_tags(self) -> None:
        """A region changes nothing; what nobody speaks is English."""
        for tag, language in (
            ("fi", "fi"),
            ("fi-FI", "fi"),
            ("DE-at", "de"),
            ("en", "en"),
            ("tlh", "en"),
            ("", "en"),
        ):
            self.assertEqual(words_of(tag).language, language, tag)


class NoticesTests(SynchronousTestCase):
    """Each notice in each language."""

    def test_the_table(self) -> None:
        """No gap is left open, the language is named, the lines are short."""
        for language in LANGUAGES:
            for kind in NoticeKind:
                for count in (1, 3):
                    notice = read(about(kind, count), kind, language)
                    shown = f"{notice['Subject']}\n{text(notice)}"
                    where = (language, kind, count)
                    self.assertIsNone(re.search(r"[{}]", shown), where)
                    self.assertLessEqual(max(map(len, shown.splitlines())), 76, where)
                    part = next(iter(notice.iter_parts()))
                    self.assertEqual(part["Content-Language"], language, where)
                    self.assertTrue(notice.as_bytes().isascii(), where)

    def test_what_the_other_side_said_stays(self) -> None:
        """Its words are quoted, not translated."""
        for language in LANGUAGES:
            notice = read(about(NoticeKind.DELAYED), NoticeKind.DELAYED, language)
            self.assertIn("452 4.2.2 The mailbox is full", text(notice))

    def test_programs_read_the_same(self) -> None:
        """The part for programs is the same in every language."""
        parts = set()
        for language in LANGUAGES:
            notice = read(about(NoticeKind.FAILED), NoticeKind.FAILED, language)
            parts.add(list(notice.iter_parts())[1].as_bytes())
        self.assertEqual(len(parts), 1)

    def test_the_page_shows_them(self) -> None:
        """docs/notices.md is what this program says."""
        self.assertEqual(PAGE.read_text("utf-8"), "".join(page()))
