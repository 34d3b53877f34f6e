"""What systemd hears of us."""

import socket
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.net.notify import READY, sd_notify, status


class NotifyTests(SynchronousTestCase):
    """`sd_notify` speaks to the socket that the environment names."""

    def listen(self, address: str) -> socket.socket:
        """Listen as systemd does."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        listener.bind(address)
        listener.settimeout(5)
        return listener

    def test_tells_a_named_socket(self) -> None:
        """Systemd's usual socket is a path."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = f"{directory.name}/notify"
        listener = self.listen(path)
        told = sd_notify({"NOTIFY_SOCKET": path}, READY, status("serving\n465"))
        self.assertTrue(told)
        self.assertEqual(listener.recv(100), b"READY=1\nSTATUS=serving 465")

    def test_tells_an_abstract_socket(self) -> None:
        """A leading @ means an abstract address."""
        listener = self.listen("")  # the kernel chooses an abstract name
        name = listener.getsockname().decode()
        self.assertTrue(sd_notify({"NOTIFY_SOCKET": "@" + name[1:]}, READY))
        self.assertEqual(listener.recv(100), b"READY=1")

    def test_is_silent_without_systemd(self) -> None:
        """Started by hand there is nobody to tell, and no error."""
        self.assertFalse(sd_notify({}, READY))
        self.assertFalse(sd_notify({"NOTIFY_SOCKET": "vsock:2:1234"}, READY))

    def test_survives_a_supervisor_that_is_gone(self) -> None:
        """A socket that nobody reads does not stop the server."""
        self.assertFalse(sd_notify({"NOTIFY_SOCKET": "/nonexistent/notify"}, READY))
