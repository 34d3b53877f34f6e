"""What the operator holds: the control socket, the `fwdmta` command, the demo.

Doorway: `cli.main`; `control_socket.ControlFactory` is started by the service.
"""
