"""How rules of classification are written and read."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.entry import Action, Stage
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.rules.classification import RuleTable, reply_of

ONE_RULE = """
[[rule]]
name = "{name}"
source = "test"
words = ['{words}']
category = "{category}"
example = "550 No"
"""


def small(words: str, category: str = "other", name: str = "only") -> RuleTable:
    """A table of one rule."""
    return RuleTable.parse(ONE_RULE.format(name=name, words=words, category=category))


class ParseTests(SynchronousTestCase):
    """Tables written by operators."""

    def faults(self, text: str) -> str:
        """What is said against a table."""
        return str(self.assertRaises(SyntaxFault, RuleTable.parse, text))

    def test_own_table(self) -> None:
        """The first rule that fits decides; others are unknown."""
        table = small("go away", "policy")
        hit = table.diagnose(reply_of("550 Go away"), Stage.RCPT)
        miss = table.diagnose(reply_of("550 Hello"), Stage.RCPT)
        self.assertEqual((hit.rule, miss.rule), ("only", "unknown"))
        self.assertIs(miss.action, Action.REJECT)

    def test_all_errors_at_once(self) -> None:
        """Every error is told, with the rule's name."""
        text = (
            '[[rule]]\nname = "a"\ncategry = "spam"\ncode = "5zz"\nstage = "night"\n'
            '[[rule]]\nname = "a"\nsource = "x"\ncategory = "spam"\nexample = "5"\n'
            "words = 5\naddress = false\n[other]\n"
        )
        said = self.faults(text)
        for words in (
            "unknown key 'other'",
            "unknown key 'categry'",
            "needs 'source'",
            "needs 'category'",
            "needs 'example'",
            "'code' '5zz'",
            "'stage' is 'night'",
            "'words' has to be text",
            "'address' can only be true",
            "the name is used twice",
        ):
            self.assertIn(words, said)

    def test_not_toml(self) -> None:
        """What is no TOML, or holds no tables, is said so."""
        self.assertIn("not TOML", self.faults("[[rule"))
        self.assertIn("[[rule]]", self.faults("rule = 5"))

    def test_unfit_patterns(self) -> None:
        """Patterns that could take for ever, or make no sense, are refused."""
        for pattern, words in (
            ("a.*b", "without a bound"),
            ("a+", "without a bound"),
            ("a{2,}", "without a bound"),
            ("a.{0,61}b", "without a bound"),
            ("(?:a{0,9}){0,9}b", "repeats a group"),
            ("a.{0,9}b.{0,9}c.{0,9}d", "more than 2 gaps"),
            ("(?=a)b", "looks around"),
            (r"(a)\1", "refers back"),
            ("Spam", "capital"),
            ("(a", "no regular expression"),
            ("a?", "found in every text"),
        ):
            text = ONE_RULE.format(name="p", words=pattern, category="spam")
            self.assertIn(words, self.faults(text), pattern)

    def test_fit_patterns(self) -> None:
        """Escapes, classes, optional groups and bounded gaps are fine."""
        for pattern in (
            r"\bv\d{1,3}\b",
            "[a-z.*+]{1,9}x",
            "(?:very )?bad",
            "a.{0,60}b",
        ):
            self.assertEqual(len(small(pattern).rules), 1)
