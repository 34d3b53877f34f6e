"""Chance from the operating system."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.net.chance import SystemEntropy


class SystemEntropyTests(SynchronousTestCase):
    """Ids and salts come from here."""

    def test_octets(self) -> None:
        """Octets are as many as asked for, and never the same twice."""
        entropy = SystemEntropy()
        self.assertEqual(len({entropy.octets(16) for _ in range(100)}), 100)
        self.assertEqual({len(entropy.octets(n)) for n in (5,)}, {5})

    def test_numbers(self) -> None:
        """Numbers lie in [0, 1) and are not all alike."""
        entropy = SystemEntropy()
        numbers = [entropy.random() for _ in range(1000)]
        self.assertTrue(all(0 <= number < 1 for number in numbers))
        self.assertGreater(max(numbers) - min(numbers), 0.5)
