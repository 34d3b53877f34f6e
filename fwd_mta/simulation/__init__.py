"""The whole server's life in memory: the same seed, the same history.

Doorway: `simulation.Simulation(plan).run()`, with a plan from `drawing.draw(seed)`. May
import every room below the command.

    plan        what happens in a life: submissions, faults, operators
    drawing     what a seed draws
    life        one process over the twins, from its start to its death
    clients     who submits, and what they were promised
    outside     hosts and names of the outside world
    history     all that happened, in lines
    simulation  one life, or several on one disk, under one virtual clock
    invariants  what must be so after every step, and at the end
    shrinking   the shortest plan that still fails
    many        many seeds on all cores
    memory      a server in memory whose world takes all its mail
    traffic     mail for a forecast
    forecast    what a configuration would do: `fwdmta simulate`
    report      its table and its plot
"""
