"""How mail comes in: the SMTP server, who may send, and the promise of the 250.

Doorway: `intake.Intake.accept`. May import: `net` and what is below it.
"""
