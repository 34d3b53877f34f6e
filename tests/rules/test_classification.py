"""What other mail servers' words mean."""

import json
from importlib.resources import files

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.entry import Action, Category, Scope, Stage
from fwd_mta.mail.reply import Reply
from fwd_mta.rules.classification import RuleTable, get_bounce_info, reply_of
from tests.rules.replies import REPLIES

TEXT = files("fwd_mta.rules").joinpath("classification.toml").read_text("utf-8")
TABLE = RuleTable.parse(TEXT)


class BuiltinTableTests(SynchronousTestCase):
    """The rules that come with the program."""

    def test_examples(self) -> None:
        """Every rule decides its own examples."""
        wrong = [
            (rule.name, example, found)
            for rule in TABLE.rules
            for example in rule.examples
            for stage in [rule.stages[0] if rule.stages else Stage.RCPT]
            for found in [TABLE.diagnose(reply_of(example), stage).rule]
            if found != rule.name
        ]
        self.assertEqual(wrong, [])

    def test_number_of_rules(self) -> None:
        """There are at least two hundred and fifty."""
        self.assertGreaterEqual(len(TABLE.rules), 250)

    def test_known_replies(self) -> None:
        """Replies that no rule has as its example are read right."""
        wrong = []
        for category, (passing, final) in REPLIES.items():
            for text in (*passing, *final):
                found = TABLE.diagnose(reply_of(text), Stage.RCPT)
                refused = found.action is Action.REJECT
                if found.category != category or refused is not (text in final):
                    wrong.append((text, found))
        self.assertEqual(wrong, [])

    def test_every_category_is_found(self) -> None:
        """Each category has a rule."""
        self.assertEqual({rule.category for rule in TABLE.rules}, set(Category))

    def test_temporary_is_never_refused(self) -> None:
        """No rule makes a 4yz final, whatever its words, at any stage."""
        for rule in TABLE.rules:
            for example in rule.examples:
                reply = reply_of(example)
                temporary = Reply(451, reply.detail, reply.text)
                for stage in Stage:
                    found = TABLE.diagnose(temporary, stage)
                    self.assertIsNot(found.action, Action.REJECT, (example, stage))

    def test_nothing_is_final_before_mail(self) -> None:
        """A 5yz to our greeting is tried again, but for 521 (RFC 7504)."""
        for text in ("554 No", "554 5.7.1 Policy", "550 User unknown", "550 spam"):
            for stage in (Stage.GREETING, Stage.HELLO, Stage.STARTTLS, Stage.AUTH):
                found = TABLE.diagnose(reply_of(text), stage)
                self.assertIsNot(found.action, Action.REJECT, (text, stage))
                self.assertIs(found.scope, Scope.DESTINATION)
        found = TABLE.diagnose(reply_of("521 mx.example.net"), Stage.GREETING)
        self.assertIs(found.action, Action.REJECT)


class DecisionTests(SynchronousTestCase):
    """SPEC section 3: what the sender can expect."""

    def diagnosed(
        self, text: str, stage: Stage = Stage.RCPT
    ) -> tuple[Action, Category, Scope]:
        """The three answers that decide what we do."""
        found = TABLE.diagnose(reply_of(text), stage)
        return found.action, found.category, found.scope

    def test_block_list_is_retried(self) -> None:
        """A 5yz about our address waits, and rests the site."""
        text = "554 5.7.1 Client host [192.0.2.4] blocked using zen.spamhaus.org"
        self.assertEqual(
            self.diagnosed(text),
            (Action.DEFER, Category.BLOCKLIST, Scope.DESTINATION),
        )

    def test_domain_list_is_final(self) -> None:
        """A listed domain or link is the message's fault and rests no site."""
        for text in (
            "554 5.7.1 Sender address blocked using dbl.spamhaus.org",
            "550 Message contains a URL listed at multi.uribl.com",
        ):
            self.assertEqual(
                self.diagnosed(text), (Action.REJECT, Category.SPAM, Scope.MESSAGE)
            )

    def test_full_mailbox_is_retried(self) -> None:
        """Full is full, with 4yz or 5yz, by code or by words."""
        for text in ("552 5.2.2 No", "452 4.2.2 No", "550 Mailbox is full"):
            self.assertEqual(
                self.diagnosed(text),
                (Action.DEFER, Category.CAPACITY, Scope.RECIPIENT),
            )

    def test_not_full(self) -> None:
        """5.2.1, 5.2.3 and 5.3.4 are final even where the words speak of quota."""
        for text in (
            "550 5.2.1 Mailbox disabled, over quota",
            "552 5.2.3 Message larger than mailbox quota",
            "552 5.3.4 Message size over mailbox quota",
        ):
            self.assertIs(self.diagnosed(text)[0], Action.REJECT, text)

    def test_rate_slows_down(self) -> None:
        """Too many connections is a slow-down, with 4yz or 5yz."""
        for text in ("421 Too many connections", "550 Too many connections"):
            self.assertEqual(self.diagnosed(text)[0], Action.SLOWDOWN)

    def test_too_many_recipients(self) -> None:
        """452 4.5.3 is about this transaction, not about the site."""
        self.assertEqual(
            self.diagnosed("452 4.5.3 Too many recipients"),
            (Action.DEFER, Category.RATE, Scope.MESSAGE),
        )

    def test_greylist_at_5yz(self) -> None:
        """Greylisting with a permanent code is tried again."""
        self.assertIs(self.diagnosed("550 Greylisted, come back")[0], Action.DEFER)

    def test_mailbox_names_do_not_count(self) -> None:
        """Words inside an address decide nothing."""
        self.assertEqual(
            self.diagnosed(
                "550 5.1.1 <spam.virus+quota-full@example.net>: unknown user"
            ),
            (Action.REJECT, Category.RECIPIENT, Scope.RECIPIENT),
        )

    def test_our_address(self) -> None:
        """Weak words count as a block only where our address is named."""
        reply = reply_of("550 192.0.2.4 denied")
        own = TABLE.diagnose(reply, Stage.RCPT, own_addresses=["192.0.2.4"])
        other = TABLE.diagnose(reply, Stage.RCPT, own_addresses=["192.0.2.9"])
        self.assertIs(own.category, Category.BLOCKLIST)
        self.assertIs(other.category, Category.POLICY)

    def test_ipv6_address(self) -> None:
        """An IPv6 address is an address; a time of day is not."""
        self.assertIs(self.diagnosed("550 2001:db8::1 denied")[1], Category.BLOCKLIST)
        self.assertIs(self.diagnosed("550 12:30:45 denied")[1], Category.POLICY)

    def test_unexpected_positive(self) -> None:
        """A 2yz or 3yz where it has no place is tried again."""
        for code in (250, 354):
            found = TABLE.diagnose(Reply(code, None, "Go on"), Stage.RCPT)
            self.assertIs(found.action, Action.DEFER)

    def test_status(self) -> None:
        """The enhanced code is the one said, said in the words, or the usual one."""
        for text, status in (
            ("550 5.1.6 Gone", "5.1.6"),
            ("550 no mailbox here by that name. (#5.1.1)", "5.1.1"),
            ("550 User unknown", "5.1.1"),
            ("450 Mailbox full", "4.2.2"),
            ("554", "5.0.0"),
        ):
            found = TABLE.diagnose(reply_of(text), Stage.RCPT)
            self.assertEqual(found.status, status, text)


class HostileReplyTests(SynchronousTestCase):
    """Replies made to hurt."""

    def test_long_replies_cost_what_short_ones_do(self) -> None:
        """Of 64 KiB of any rule's own words the first 4 KiB decide alone."""
        words = ("listed at ", "a@", "1.2.3.4 ", "mailbox over ", "x" * 70, "1:" * 8)
        for word in words:
            long = Reply(550, "7.1", word * (65536 // len(word)))
            cut = Reply(550, "7.1", long.text[:4096])
            self.assertEqual(
                TABLE.diagnose(long, Stage.RCPT), TABLE.diagnose(cut, Stage.RCPT)
            )

    def test_words_at_the_end_of_a_long_reply(self) -> None:
        """What stands behind the first 4 KiB is not read."""
        found = TABLE.diagnose(Reply(550, None, "x " * 4096 + "spamhaus"), Stage.RCPT)
        self.assertEqual(found.rule, "no")

    def test_controls(self) -> None:
        """Control characters neither hide words nor reach the answer."""
        found = get_bounce_info("550 5.1.1 User\x1b[31m\x00\x07 unknown\r\n", TABLE)
        self.assertIs(found.category, Category.RECIPIENT)
        self.assertTrue(found.message.isprintable())

    def test_anything(self) -> None:
        """Empty, binary and endless texts are read without a fault."""
        for text in ("", "\x00", "\udcff", "550", "9" * 9000, "\n" * 9000, "5.1.1"):
            self.assertIn(get_bounce_info(text, TABLE).action, set(Action))


class ReplyOfTests(SynchronousTestCase):
    """Raw words read as a reply."""

    def test_one_line(self) -> None:
        """Code, enhanced code and text are told apart."""
        self.assertEqual(reply_of("550 5.1.1 No\r\n"), Reply(550, "1.1", "No"))

    def test_many_lines(self) -> None:
        """The codes of continuation lines are dropped."""
        text = "550-5.1.1 One\r\n550-5.1.1 two\r\n550 5.1.1 three"
        self.assertEqual(reply_of(text), Reply(550, "1.1", "One\ntwo\nthree"))

    def test_without_enhanced_code(self) -> None:
        """An address at the start is no enhanced code."""
        self.assertEqual(reply_of("554 5.1.1.1 No"), Reply(554, None, "5.1.1.1 No"))

    def test_from_a_log(self) -> None:
        """The reply is found in a log line and in a Diagnostic-Code."""
        for text in (
            "host mx.example.net[192.0.2.1] said: 550 5.1.1 No (in reply to RCPT TO)",
            "smtp; 550 5.1.1 No (in reply to RCPT TO)",
        ):
            expected = Reply(550, "1.1", "No (in reply to RCPT TO)")
            self.assertEqual(reply_of(text), expected)

    def test_without_code(self) -> None:
        """Words alone have code 0; an enhanced code alone brings its class."""
        self.assertEqual(reply_of("Mailbox full"), Reply(0, None, "Mailbox full"))
        self.assertEqual(reply_of("4.2.2 Full"), Reply(450, "2.2", "Full"))

    def test_codeless_words_decide(self) -> None:
        """Without a code the category decides; unknown words are tried again."""
        self.assertIs(get_bounce_info("User unknown", TABLE).action, Action.REJECT)
        self.assertIs(get_bounce_info("Mailbox full", TABLE).action, Action.DEFER)
        self.assertIs(get_bounce_info("hm", TABLE).action, Action.DEFER)


class BounceInfoTests(SynchronousTestCase):
    """The public function."""

    def test_mapping(self) -> None:
        """It is a noun and a mapping, and JSON takes it."""
        found = get_bounce_info("550 5.1.1 User unknown", TABLE)
        self.assertEqual(
            json.loads(json.dumps(dict(found))),
            {
                "action": "reject",
                "category": "recipient",
                "scope": "recipient",
                "message": found.message,
                "code": 550,
                "status": "5.1.1",
                "rule": "recipient-unknown",
            },
        )
        self.assertEqual(len(found), 7)
        self.assertRaises(KeyError, found.__getitem__, "keys")

    def test_reply_and_stage(self) -> None:
        """A Reply is taken as it is; the stage changes what it means."""
        reply = Reply(554, None, "No")
        at_rcpt = get_bounce_info(reply, TABLE)
        at_greeting = get_bounce_info(reply, TABLE, Stage.GREETING)
        self.assertIs(at_rcpt.action, Action.REJECT)
        self.assertIs(at_greeting.action, Action.DEFER)
