"""fwd_mta, a mail transfer agent on Twisted.

The rooms, in reading order. The lower half knows what mail is and decides; it does
no I/O and never imports Twisted. The upper half follows the message.

    mail        what mail is: frozen nouns, address and header grammar
    smtp        what the bytes mean: the wire's grammar, both ways
    rules       what we decide: pure functions of nouns, time and chance
    interfaces  the seams, as typing Protocols
    events      what is logged and counted, and the only fields that may be
    net         how bytes move: clocks, sockets, disk, threads, TLS
    inbound     how mail comes in
    queue       how mail waits
    outbound    how mail goes out
    world       the world in memory: twins of the seams, for demo, simulation and tests
    config      every setting in one table; `tables` and `kinds` read TOML for it
    settings    what the settings mean to each room
    admin       the control socket, the `fwdmta` command, the demo
    server      all rooms composed, over seams that are real or in memory
    service     what twistd starts: the real seams, signals, the server's life
    simulation  the whole server's life in memory: any fault, same seed, same history
    testing     a server in memory for the tests of applications that send mail

`docs/walk.md` follows one message through them.
"""
