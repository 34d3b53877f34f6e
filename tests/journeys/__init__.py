"""Real sockets on loopback: whole walks, kill and restart."""
