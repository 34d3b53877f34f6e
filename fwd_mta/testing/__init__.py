"""For the tests of your application: a mail server in memory, its inbox and its clock.

Doorway: `case.MailServerMixin` for trial and unittest, the fixture `mail_server` for
pytest; both give a `server.MailServer`. May import: `simulation` and below.

    server          the server, its inbox, its time
    smtp            smtplib's client, connected to it
    case            the mixin
    pytest_plugin   the fixture; the only file that knows pytest
"""
