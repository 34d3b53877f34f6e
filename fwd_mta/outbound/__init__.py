"""How mail goes out: whom to ask, over which connection, and what they answered.

Doorway: `agent.Agent.deliver`, which never raises for the peer's sins.
May import: `net` and what is below it.
"""
