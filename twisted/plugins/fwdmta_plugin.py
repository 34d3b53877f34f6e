"""Names the service to twistd; imported at every twistd start, so it stays light."""

from twisted.application.service import ServiceMaker

fwdmta = ServiceMaker(
    "fwd_mta", "fwd_mta.service", "fwd_mta, the mail transfer agent", "fwdmta"
)
