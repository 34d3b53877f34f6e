"""The whole server's life, simulated."""
