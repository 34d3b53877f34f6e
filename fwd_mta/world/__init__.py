"""The world in memory: a disk, a network, a clock, and remote hosts by a table.

Twins of every seam; each passes the contract tests of the real thing. Used by the
demo, the simulation and the tests. May import: everything but `config`, `admin`,
`service`.
"""
