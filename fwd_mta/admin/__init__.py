"""What the operator holds: the control socket, the `fwdmta` command, the demo.

Doorway: `cli.main`; `control.ControlFactory` is started by the service.
"""
