"""MTA-STS policies: what is one, and whom it allows."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.rules.sts import LONGEST_AGE, Mode, Policy, parse, record_id

GOOD = "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.com\r\nmx: *.example.net\r\n"


class StsTests(SynchronousTestCase):
    """Records at _mta-sts, and the policy file."""

    def test_records(self) -> None:
        """One record with an id is a policy; none, two, or one without are none."""
        for texts, wanted in (
            (["v=STSv1; id=20240101T000000;"], "20240101T000000"),
            (["v=spf1 -all", "v=STSv1;id=a"], "a"),
            (["v=STSv1; x=y; id = b"], "b"),
            ([], None),
            (["v=STSv1; id=a", "v=STSv1; id=b"], None),
            (["v=STSv1;"], None),
            (["v=STSv1; id=not-allowed!"], None),
            (["v=STSv10; id=a"], None),
        ):
            self.assertEqual(record_id(texts), wanted, texts)

    def test_a_policy(self) -> None:
        """Names in lower case; an age that is too long is shortened."""
        found = parse(GOOD + "max_age: 99999999\r\nnew_thing: yes\r\n")
        names = ("mx1.example.com", "*.example.net")
        self.assertEqual(found, Policy(Mode.ENFORCE, LONGEST_AGE, names))

    def test_unix_lines(self) -> None:
        """Lone LFs end lines as well: many are written so."""
        self.assertIsNotNone(parse((GOOD + "max_age: 60\r\n").replace("\r\n", "\n")))

    def test_no_policy(self) -> None:
        """Whatever is not whole is none, so that nothing is guessed."""
        for text in (
            "",
            GOOD,
            GOOD + "max_age: soon\r\n",
            GOOD + "max_age: -1\r\n",
            GOOD.replace("STSv1", "STSv2") + "max_age: 60\r\n",
            GOOD.replace("enforce", "maybe") + "max_age: 60\r\n",
            "version: STSv1\r\nmode: enforce\r\nmax_age: 60\r\n",
            GOOD + "mx: <script>\r\nmax_age: 60\r\n",
            "<html>not found</html>",
        ):
            self.assertIsNone(parse(text), text)

    def test_none_needs_no_names(self) -> None:
        """`mode: none` ends a policy."""
        found = parse("version: STSv1\nmode: none\nmax_age: 60\n")
        self.assertEqual(found, Policy(Mode.NONE, 60))

    def test_names(self) -> None:
        """A wildcard stands for exactly one label (RFC 8461 4.1)."""
        policy = parse(GOOD + "max_age: 60\n")
        assert policy is not None
        for name, wanted in (
            ("mx1.example.com", True),
            ("MX1.Example.com.", True),
            ("mx2.example.com", False),
            ("a.example.net", True),
            ("a.b.example.net", False),
            ("example.net", False),
            ("xexample.net", False),
        ):
            self.assertEqual(policy.allows(name), wanted, name)
