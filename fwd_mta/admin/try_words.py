"""What `fwdmta try` says is to be done; docs/troubleshooting.md says the same.

Tests hold the page to these sentences.
"""

NAME = (
    "Check how the server's name is spelled, then whether this machine's DNS works:"
    " does it find other names?"
)
REFUSED = (
    "The machine is there, but nobody listens on that port: is the server running,"
    " and does it listen there?"
)
TIMED_OUT = (
    "Many networks block port 25, and some 465 or 587: try the other of the two"
    " (587 with STARTTLS, 465 with SSL/TLS)."
)
UNREACHABLE = "No way leads to that address: is this machine online?"
SILENT = (
    "A client that is set to STARTTLS or to no encryption, but uses port 465,"
    " waits for a greeting that comes only inside TLS."
)
BROKEN = "The line broke: something between may end connections; try the other port."
REPLIED = "The server's own reply says why."
NO_STARTTLS = (
    "Do not send a password there: something between may take STARTTLS away;"
    " use port 465 with SSL/TLS."
)
CLEAR = "That port begins in clear: set the client to STARTTLS there, or use port 465."
OLD = "The server speaks TLS 1.2 and 1.3 only. Update what cannot."
EXPIRED = (
    "The certificate has ended: the operator has to renew it."
    " If it has not, set this machine's clock."
)
NOT_YET = "The certificate is not valid yet: set this machine's clock."
AUTHORITY = (
    "This machine does not know who signed the certificate: update its certificates,"
    " or name the file of your own authority with --ca."
)
WRONG_NAME = (
    "Use the server's name as it is in the certificate, not its address, or have"
    " the operator put this name in."
)
COPY_ANEW = (
    "Copy the password anew. Operator: fwdmta account list,"
    " fwdmta account password LOGIN."
)
SWITCHED_OFF = "The password is right. Operator: fwdmta account enable LOGIN."
GUESSES = (
    "Wait as long as it says. An address that has logged in within 30 days is spared."
)
LATER = (
    "Nothing is wrong with the password. Operator: are the accounts, the database"
    " or Dovecot there?"
)
NO_AUTH = "Nobody can log in there: is it the server's port for sending mail?"
SENDER = (
    "Send as your own address, or have the other one allowed. The server's operator"
    " runs the command that the reply shows."
)

SENTENCES = tuple(
    text for name, text in list(globals().items()) if name.isupper() and name[0] != "_"
)
