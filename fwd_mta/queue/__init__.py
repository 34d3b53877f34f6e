"""How mail waits: on disk, losing nothing, and coming back when due.

Doorway: the three faces of `interfaces.QueueStore`. May import: `net` and below.
"""
