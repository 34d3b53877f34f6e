"""How bytes move: the real seams. Clocks, sockets, disk, threads, chance, TLS.

Doorway: the classes of `interfaces`, made real. Twins of all live in `world`.
May import: `interfaces`, `events` and what is below.
"""
