"""Interop: the server run against real programs, from outside.

`run.py` lists the scenarios and runs them; `kit.py` is what every scenario holds
(a folder, a certificate authority, things to be closed); `server.py`, `sink.py` and
`postfix.py` start the three kinds of mail server. Nothing here imports fwd_mta.
"""
