"""Fuzzing of what comes in: `make fuzz`, guided by coverage and by grammar, bounded.

`targets` says what must hold for any octets, `guided` drives them with atheris,
`grammar` with Hypothesis; `run` does both for a time and counts.
"""
