"""What we decide: pure functions of nouns, time and chance.

Doorway: one function a file, named for its answer: `refusal`, `stamp`, `route`,
`order`, `diagnose`, `settle`, `compose`, `next_step`. May import: `mail`.
"""
