"""docs/errors.md says of every refusal what it means; it is held equal to the code."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from tests.inbound.spoken import replies

PAGE = Path(__file__).parent.parent.parent / "docs" / "errors.md"
ROW = re.compile(r"^\| ([45][0-9]{2} .*?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


class PageTests(SynchronousTestCase):
    """The page and the code."""

    @override
    def setUp(self) -> None:
        """The rows, as a reader sees them."""
        rows = ROW.findall(PAGE.read_text("utf-8"))
        self.rows = [re.sub(r"\\(.)", r"\1", reply) for reply, _, _ in rows]

    def test_nothing_is_missing(self) -> None:
        """Each refusal in the code has its row, and each row its refusal."""
        spoken = {reply for reply in replies() if reply[0] in "45"}
        self.assertGreater(len(spoken), 80)
        self.assertEqual(sorted(spoken - set(self.rows)), [])
        self.assertEqual(sorted(set(self.rows) - spoken), [])

    def test_in_order(self) -> None:
        """By code, each once."""
        self.assertEqual(self.rows, sorted(set(self.rows)))

    def test_enhanced_codes(self) -> None:
        """Each carries one, of the class of its code (RFC 2034)."""
        for reply in self.rows:
            code, status, _ = reply.split(" ", 2)
            self.assertRegex(status, r"\A[45]\.[0-9]\.[0-9]{1,2}\Z", reply)
            self.assertEqual(code[0], status[0], reply)
