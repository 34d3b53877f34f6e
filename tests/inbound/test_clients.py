"""Tests for who is connected: addresses, networks, counts."""

from ipaddress import ip_network

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.inbound.clients import Clients, client_of, is_in


class ClientsTests(SynchronousTestCase):
    """`Clients` counts, and forgets who has gone."""

    def test_connected(self) -> None:
        """Each address has its count, and none is kept at zero."""
        clients = Clients()
        for _ in range(2):
            clients.joined("192.0.2.7")
        clients.left("192.0.2.7")
        self.assertEqual(clients.connected, {"192.0.2.7": 1})
        clients.left("192.0.2.7")
        self.assertEqual(len(clients.connected), 0)

    def test_logins(self) -> None:
        """A login is admitted up to its limit, and again when one has left."""
        clients = Clients()
        admitted = [clients.admit("ann@example.com", 2) for _ in range(3)]
        self.assertEqual(admitted, [True, True, False])
        self.assertTrue(clients.admit("bob@example.com", 2))
        clients.logged_out("ann@example.com")
        self.assertTrue(clients.admit("ann@example.com", 2))


class AddressTests(SynchronousTestCase):
    """How a client is named."""

    def test_names(self) -> None:
        """IPv4-mapped is IPv4, IPv6 is short and without scope, a socket is local."""
        table = (
            (IPv4Address("TCP", "192.0.2.9", 7), ("192.0.2.9", 7)),
            (IPv6Address("TCP", "::ffff:192.0.2.9", 7), ("192.0.2.9", 7)),
            (IPv6Address("TCP", "2001:DB8:0::1", 7), ("2001:db8::1", 7)),
            (IPv6Address("TCP", "fe80::1%eth0", 7), ("fe80::1", 7)),
            (UNIXAddress("/run/x"), ("local", 0)),
            (None, ("local", 0)),
        )
        for address, named in table:
            self.assertEqual(client_of(address), named)

    def test_networks(self) -> None:
        """Both families; what is no address is in no network."""
        networks = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
        self.assertTrue(is_in("10.9.8.7", networks))
        self.assertTrue(is_in("2001:db8::5", networks))
        for client in ("11.0.0.1", "::1", "local", ""):
            self.assertFalse(is_in(client, networks), client)
