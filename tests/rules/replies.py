"""Replies as mail servers give them, with what each means.

Written down by hand, apart from the examples in `classification.toml`: the rules have
to read these too.
"""

# category: (replies that are tried again, replies that are final)
REPLIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "auth": (
        (
            (
                "451 4.7.24 The SPF record of the sending domain has one or more "
                "suspicious entries"
            ),
            (
                "421-4.7.0 This message does not pass authentication checks (SPF "
                "and DKIM both do not pass). "
            ),
        ),
        (
            (
                "550 5.7.515 Access denied, sending domain EXAMPLE.COM doesn't "
                "meet the required authentication level."
            ),
            (
                "550 5.7.26 This mail has been blocked because the sender is "
                "unauthenticated."
            ),
            "550 SPF check failed",
            "550 5.7.23 SPF validation failed",
            "530 5.7.1 Client was not authenticated",
            "535 5.7.8 Authentication credentials invalid",
            (
                "550-5.7.27 Your email has been blocked because SPF authentication "
                "didn't pass for this message."
            ),
            "550 You are not allowed to send mail: no SPF",
            (
                "550 5.7.9 This mail has been blocked because the sender "
                "authentication failed"
            ),
            "550 5.7.1 unable to verify DKIM signature",
            "550 rejected due to SPF: -all",
            "550 5.7.1 SPF unauthorized mail is prohibited.",
            "550 5.7.0 DKIM signature verification failed",
            "550 5.7.1 Unauthenticated email is not accepted from this domain.",
            "530 Authentication required",
            "535 5.7.3 Authentication unsuccessful",
            (
                "550-5.7.26 This message fails to pass SPF checks for an SPF "
                "record with a hard fail policy (-all). To best protect our users "
                "from spam and phishing, the message has been blocked."
            ),
            "550 SPF check failed. https://service.mail.qq.com/detail/0/62",
            "550 Rejected - DKIM Sender Invalid",
            "550-Please turn on SMTP Authentication in your mail client.",
        ),
    ),
    "blocklist": (
        (
            (
                "553 5.7.1 [BL23] Connections not accepted from IP addresses on "
                "Spamhaus XBL"
            ),
            (
                "550 5.7.1 Unfortunately, messages from [1.2.3.4] weren't sent. "
                "Please contact your Internet service provider since part of their "
                "network is on our block list (S3150)."
            ),
            (
                "550 5.7.1 Service unavailable, Client host [1.2.3.4] blocked "
                "using Spamhaus. (AS16012611)"
            ),
            "550 5.7.606 Access denied, banned sending IP [1.2.3.4]",
            (
                "554-gmx.net (mxgmx115) Nemesis ESMTP Service not available\n"
                "554-No SMTP service\n554-IP address is block listed.\n554 For "
                "explanation visit "
                "https://postmaster.gmx.net/en/error-messages?ip=1.2.3.4&c=bip"
            ),
            (
                "554 IP=1.2.3.4 - A problem occurred. (Ask your postmaster for "
                "help or to contact tosa@rx.t-online.de to clarify.)"
            ),
            (
                "550 5.5.0 Service refuse. Veuillez essayer plus tard. service "
                "refused, please try later. LPN007_510"
            ),
            (
                "554 5.7.1 Service unavailable; Client host [1.2.3.4] blocked "
                "using b.barracudacentral.org"
            ),
            "550 rejected: 1.2.3.4 is listed in zen.spamhaus.org",
            "421 4.7.0 IP not in whitelist for RCPT domain, closing connection.",
            "554 Denied. See http://www.spamrats.com/bl?1.2.3.4",
            "550 5.7.1 Mail from 1.2.3.4 refused - see RBL server bl.spamcop.net",
            (
                "554 5.7.1 Your access to this mail system has been rejected due "
                "to the sending MTA's poor reputation."
            ),
            (
                "554 Blocked - see "
                "https://support.proofpoint.com/dnsbl-lookup.cgi?ip=1.2.3.4"
            ),
            "421 4.7.1 Intrusion prevention active for [1.2.3.4]",
            (
                "550 Your message was rejected because your IP is on our internal "
                "blacklist"
            ),
            "550 5.7.1 Email blocked. Sender IP in blacklist",
            "554 Refused. Your IP address is listed in the RBL at multi.dnsbl.example",
            (
                "550 5.7.708 Service unavailable. Access denied, traffic not "
                "accepted from this IP. For more information please go to "
                "http://go.microsoft.com/fwlink/?LinkId=526653"
            ),
            (
                "550-5.7.1 [203.0.113.7      19] Gmail has detected that this "
                "message is likely\n550-5.7.1 suspicious due to the very low "
                "reputation of the sending IP address."
            ),
            (
                "554 5.7.1 - ERROR: Mail refused - <203.0.113.7> - See "
                "http://www.spectrum.net AUP#1350"
            ),
            "451 Local CT IP Reputation - (delay)",
            (
                "550 #5.7.1 Your access to submit messages to this e-mail system "
                "has been rejected."
            ),
            "550 Service unavailable; client [203.0.113.7] blocked using list.dsbl.org",
            "554 5.7.1 Rejected: 203.0.113.7 listed at b.barracudacentral.org",
            "554 5.7.1 Blocked: your mail server has been listed for sending spam",
            (
                "550 5.7.1 This system is configured to reject mail from "
                "203.0.113.7 (Host blacklisted - Found on Realtime Black List "
                "server 'bl.mailspike.net')"
            ),
            (
                "554 mx1.seznam.cz Your IP address 203.0.113.7 is temporarily "
                "blocked, contact abuse@seznam.cz"
            ),
            "550 5.7.1 [C9] RBL Restriction: See http://www.mailspike.net/",
            "550 IP not allowed",
            "554 Verbindung von Ihrer IP-Adresse nicht erlaubt",
            "550 mail not accepted from blacklisted IP address [203.0.113.7]",
            "554 5.7.1 You are not allowed to connect.",
            "554 Your IP (203.0.113.7) is dynamic. Please use your ISP's mail server",
            (
                "550-5.7.1 [203.0.113.7] Our system has detected an unusual rate "
                "of unsolicited mail originating from your IP address. To protect "
                "our users from spam, mail sent from your IP address has been "
                "blocked. Please visit"
            ),
            (
                "451 4.7.651 The mail server [203.0.113.7] has been temporarily "
                "rate limited due to IP reputation. For e-mail delivery "
                "information see https://postmaster.live.com (S3140)"
            ),
            (
                "553 5.7.2 [TSS11] All messages from 203.0.113.7 will be "
                "permanently deferred"
            ),
            "550 5.7.1 Blocked - see https://ipcheck.proofpoint.com/?ip=203.0.113.7",
            "554 IP=203.0.113.7 - Dialup/transparent, no mail",
            "550 5.7.1 [BL] Zugriff verweigert: IP gesperrt",
            (
                "421 mwinf5c73 ME Service refuse. Veuillez essayer plus tard. "
                "Service refused, please try later. OFR_109 [109]"
            ),
            (
                "550 Your mail was rejected: your IP reputation is too low. See "
                "help.mail.ru"
            ),
            "550 Mail from your IP-address is not accepted: spam",
            "554 5.7.1 Connection refused due to IP in blocklist [qq]",
            "554 5.7.1 Message rejected by Barracuda: sender reputation",
            (
                "554 5.7.1 Service unavailable; Client host [203.0.113.7] blocked "
                "by CSI. csi.cloudmark.com"
            ),
            (
                "550-5.7.1 Rejected: 203.0.113.7 PBL listed\n550 5.7.1 see "
                "https://check.spamhaus.org"
            ),
            "550 5.7.1 bl.spamcop.net Blocked - see http://bl.spamcop.net/?203.0.113.7",
            (
                "550 5.7.1 <mail.example.com[203.0.113.7]>: Client host rejected: "
                "Access denied"
            ),
        ),
        (),
    ),
    "capacity": (
        (
            (
                "452-4.2.2 The recipient's inbox is out of storage space. Please "
                "direct the recipient to\n452 4.2.2 "
                "https://support.google.com/mail/?p=OverQuotaTemp - gsmtp"
            ),
            "552 5.2.2 mailbox full",
            "550 5.2.2 user over quota; cannot receive new mail",
            (
                "554 5.2.2 mailbox "
                "full;STOREDRV.Deliver.Exception:QuotaExceededException.MapiE"
                "xceptionShutoffQuotaExceeded; Failed to process message"
            ),
            (
                "552 5.2.2 This message is larger than the current system limit or "
                "the recipient's mailbox is full. Create a shorter message body or "
                "remove attachments"
            ),
            "550 Mailbox quota exceeded",
            "452 4.1.1 <x@y> 4.2.2 requested action aborted: mailbox full",
            "552 5.2.2 <x@icloud.com>: user is over quota",
            "550 5.2.0 x@comcast.net mailbox over quota",
            "552 5.2.2 Mailbox size limit exceeded",
            "452 4.3.1 Insufficient system storage",
            "421 4.3.2 All server ports are busy",
            "452 4.2.2 Over quota",
            "550 5.2.2 RESOLVER? mailbox is over its quota and can't receive messages",
            (
                "552 5.2.2 The email account that you tried to reach is over quota "
                "and inactive"
            ),
            (
                "552-Requested mail action aborted: exceeded storage allocation\n"
                "552 Quota exceeded. The recipient mailbox is full."
            ),
            "452 4.1.1 Mailbox full / Postfach voll",
            "550 5.7.1 Recipient address rejected: user over quota",
            "421 4.3.2 Your message was deferred: receiving host is too busy",
            "550 Quota exceeded for user bob",
            "452 4.2.2 mailbox is over quota, try again later",
            "552 mailbox storage limit exceeded",
            "550 5.7.1 bob's mailbox is full",
            "422 4.2.2 Recipient mailbox full",
            "431 4.3.1 The recipient's mail system is full",
            "451 4.2.2 disk quota exceeded",
            "452 Insufficient system storage",
            "421 4.3.1 system full",
            "451 try again later, system load too high",
            "451 4.3.0 Error: queue file write error",
            "452 4.3.1 Insufficient system resources",
            "450 4.2.2 bob@me.com user over quota",
            "452 4.2.2 Das Postfach des Empfängers ist voll",
            "452 4.4.5 <bob@x>... Insufficient disk space; try again later",
            "550 sorry, the user is over quota (#5.2.2)",
        ),
        (),
    ),
    "config": (
        (
            "454 4.7.1 <x@y>: Relay access denied",
            "451 4.3.5 Server configuration problem",
            (
                "451 4.4.4 Mail received as unauthenticated, incoming to a "
                "recipient domain configured in a hosted tenant which has no "
                "mail-enabled subscriptions. ATTR5"
            ),
            "451 Local configuration error",
            "450 4.7.1 <mail>: Helo command rejected: Host not found",
        ),
        (
            (
                "550 5.7.367 Remote server returned not permitted to relay -> 554 "
                "5.7.1 Relay access denied"
            ),
            "554 5.7.1 <x@y>: Relay access denied",
            "550 5.7.1 Relaying denied",
            "550 relay not permitted, authentication required",
            "554 5.4.6 Too many hops",
            "550 This domain is not hosted here",
            "554 5.0.0 Message loop detected",
            "554 5.4.14 Hop count exceeded - possible mail loop ATTR34",
            "554 5.3.2 Service not accepting messages",
            "501 Invalid HELO/EHLO domain",
            "550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)",
            '550 "REJECTED - Bad HELO - Host impersonating [mail.example.com]"',
            "553 5.7.1 Relaying denied: POP before SMTP",
            "554 5.4.12 SMTP; Hop count exceeded",
            "554 message loop: too many Received headers",
            "550 mail for example.com loops back to myself",
            "550 5.3.5 local configuration error",
            "550 mail server for domain not configured",
            (
                "550-203.0.113.7 is currently not permitted to relay through this "
                "server. Perhaps you\n550-have not logged into the pop/imap server "
                "in the last 30 minutes or do not have\n550 SMTP Authentication "
                "turned on in your email client."
            ),
            "554 5.0.0 MX list for example.com. points back to mail.example.com",
        ),
    ),
    "dmarc": (
        (
            (
                "421-4.7.32 Your email has been rate limited because the From: "
                "header (RFC5322) in this message isn't aligned with either the "
                "authenticated SPF or DKIM organizational domain."
            ),
        ),
        (
            "550 5.7.1 rejected by DMARC policy",
            "554 5.7.5 Permanent error evaluating DMARC policy",
            "550 Rejected - DMARC check failed: p=reject",
            "550 5.7.1 This message does not meet DMARC",
            (
                "554-Transaction failed\n554 Unauthenticated email from "
                "example.com is not accepted due to domain's DMARC policy."
            ),
        ),
    ),
    "dns": (
        (
            (
                "450 4.7.1 Client host rejected: cannot find your reverse "
                "hostname, [1.2.3.4]"
            ),
            (
                "550 5.7.25 The IP address sending this message does not have a "
                "PTR record setup, or the corresponding forward DNS entry does not "
                "point to the sending IP"
            ),
            "554 5.7.1 You must have a valid reverse DNS entry",
            "451 4.1.8 Possibly forged hostname for 1.2.3.4",
            "450 4.4.312 DNS query failed [Message=] ",
            "550 5.7.1 Client host rejected: cannot find your hostname",
            "550 Sender IP reverse lookup rejected",
            "550 5.7.1 Refused. Your reverse DNS entry does not resolve",
            "451 4.4.3 DNS lookup failure",
            "450 4.4.4 unable to route",
            (
                "550-5.7.25 The IP address sending this message does not have a "
                "PTR record, or the corresponding forward DNS entry does not match "
                "the sending IP. As a policy, Gmail does not accept messages from "
                "IPs with missing PTR records."
            ),
            "550 Your host is not allowed to send mail: no reverse DNS",
            "451 unable to check recipient: temporary DNS problem (#4.4.3)",
        ),
        (
            "550 5.1.2 Bad destination system address",
            "554 5.1.2 Host not found",
            (
                "550 5.4.310 DNS domain example.invalid does not exist "
                "[Message=InfoDomainNonexistent]"
            ),
            (
                "553 5.1.2 We weren't able to find the recipient domain. Please "
                "check for any spelling errors"
            ),
        ),
    ),
    "greylist": (
        (
            (
                "451 4.7.1 Sorry, the service is currently unavailable. Please "
                "come back later."
            ),
            (
                "451 4.7.1 Internal resources are temporarily unavailable - "
                "https://community.mimecast.com"
            ),
            "450 4.2.0 <x@y>: Recipient address rejected: Greylisted for 300 seconds",
            "451 4.7.1 Greylisting in action, please come back later",
            "450 4.3.2 Service currently unavailable",
            (
                "451 4.7.1 [GL01] Message from (203.0.113.7) temporarily deferred "
                "- 4.16.50"
            ),
            (
                "450-Requested mail action not taken: mailbox unavailable\n"
                "450-Sender address has been rejected by greylisting\n450 try later"
            ),
            "451 4.7.1 Greylisting in action, please come back in 05:00",
            "454 4.7.1 greylist: wait 300s",
            "451 DEFERRED: unknown triplet, come back in 5 minutes",
            "450 4.7.1 <x>: You are new here, please retry in 120 seconds",
            "451 4.7.1 Please try again later: greylisted",
        ),
        (),
    ),
    "message": (
        (),
        (
            "552 5.3.4 Message too big",
            "552 5.2.3 Message size exceeds",
            "554 5.6.0 malformed message",
            "550 5.6.2 message contains bare linefeeds",
            (
                "550-5.7.1 Our system has detected that this message is not RFC "
                "5322 compliant: Multiple 'From' addresses found"
            ),
            "554 Email rejected - Message Size Limit Exceeded",
            "552 5.3.4 Error: message file too big",
            "554 5.3.4 Message too big for system",
            "550 maximum message size exceeded",
            "550 Requires valid From",
            "554 5.6.0 Message contains NUL characters",
            "554 5.6.1 Body type not supported by remote host",
            "552 5.2.0 Message too large - psmtp",
            "552 Error: message too large",
            "554 Message is too long",
            "550 5.1.20 Multiple From addresses are not allowed without Sender header",
            "552 5.3.4 Message size exceeds fixed maximum message size",
            "550 5.6.0 CAT.InvalidContent.Exception: DataSourceTransientException",
            "552 Message size exceeds fixed limit",
            "554 sorry, invalid message content (#5.3.2)",
        ),
    ),
    "network": (
        (
            "421 Service not available, closing transmission channel",
            "450 4.4.1 Connection timed out",
            "451 4.4.2 Timeout waiting for data",
            "441 4.4.1 No answer from host",
            "451 4.4.1 reply: read error from mail.example.org.",
            "451 Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)",
            "421 Server shutting down",
            "451 4.4.2 Bad connection",
            "421 4.4.2 idle timeout",
            "421 4.4.1 Connection timed out",
        ),
        (
            "550 4.4.7 Message expired",
            "550 5.4.300 Message expired -> 421 4.2.1 Try again later",
        ),
    ),
    "other": (
        (
            "451 4.3.0 Temporary lookup failure",
            "451 4.3.0 <x@y>: Temporary lookup failure",
            "450 4.7.1 Please try again later",
            "451 4.7.1 Service unavailable - try again later",
            "451 Requested action aborted: local error in processing",
            "451 4.7.1 temporarily deferred",
            "421 4.3.0 Mail server temporarily rejected message. gsmtp",
            "421 Temporary local problem, please try later",
            "451 qq temporary failure (#4.3.0)",
            "421 Unexpected failure, please try later",
            "421 4.3.2 Service shutting down",
            "451 4.3.0 Internal server error",
            "471 4.7.1 please try again",
            "421 4.7.0 Temporary System Problem. Try again later (WS).",
            "421 4.3.2 Service not available",
            "451 Account service is temporarily unavailable",
            "451 4.3.0 <bob@x>: Temporary lookup failure",
        ),
        (
            "554 Transaction failed",
            "554 6.6.0 Error sending message for delivery.",
        ),
    ),
    "policy": (
        (
            (
                "450 4.7.1 <bob@x>: Recipient address rejected: Policy "
                "restrictions, try later"
            ),
            "451 4.3.0 Message held for human verification before permitting delivery",
        ),
        (
            (
                "550 5.7.129 RESOLVER.RST.RestrictedToRecipientsPermission; not "
                "authorized to send to recipient because sender isn't on the list "
                "of senders"
            ),
            "550 5.7.1 Policy rejection on the target address",
            "550 Rejected by header based Anti-Spoofing policy",
            "550 Envelope blocked - User Entry",
            "550 Administrative prohibition",
            "550 5.7.1 Delivery not authorized, message refused",
            "550 5.7.1 You are not allowed to send mail to this group",
            "554 5.7.9 Message not accepted for policy reasons.",
            "554 5.7.7 Email policy violation detected",
            (
                "550 5.7.51 TenantInboundAttribution; There is a partner connector "
                "configured that matched the message's recipient domain"
            ),
            "541 5.4.1 Mail rejected by destination domain",
            (
                "550 5.7.1 Your message can't be delivered because messages to "
                "some@list are restricted"
            ),
            (
                "550 5.7.124 RESOLVER.RST.SenderNotAuthenticatedForMailbox; "
                "authentication required"
            ),
            (
                "550 5.7.750 Service unavailable. Client blocked from sending from "
                "unregistered domains"
            ),
            "550 Sender is denied by recipient's blacklist",
            "550 5.7.0 Blocked by Proofpoint: content policy",
            "550 5.7.1 Sorry, you have been blocked by the recipient",
            "571 Delivery not authorized, message refused",
            "550 5.7.1 Delivery is restricted",
            "550 Sender blacklisted by recipient",
            "550 5.7.1 AS(1430) message rejected",
            (
                "550 5.7.1 The user or domain that you are sending to (or from) "
                "has a policy that prohibited the mail that you sent."
            ),
            (
                "550 5.7.520 Access denied, Your organization does not allow "
                "external forwarding. Please contact your administrator"
            ),
            "550 5.7.193 UserNotInOrg; tenant restrictions",
            (
                "550 5.7.1 Message rejected. See http://postmaster.yahooinc.com. "
                "Sender domain is listed in our policy"
            ),
            (
                "554 5.7.9 Message not accepted for policy reasons. See "
                "https://senders.yahooinc.com/smtp-error-codes"
            ),
            "550 5.7.1 The recipient has blocked your address",
            "550 Administrative prohibition envelope blocked - Domain",
            "550 Rejected (blocked by ACL)",
            "554 5.7.1 <bob@x>: Recipient address rejected: Access denied",
            "550 5.7.1 <bob@x>... Access denied",
            "550 5.7.1 Requested action not taken: message refused",
            "554 Message refused",
            "550 rejected by recipient filter",
        ),
    ),
    "protocol": (
        ("421 4.4.0 Remote server response was not RFC conformant",),
        (
            "503 Bad sequence of commands",
            "500 Command unrecognized",
            "550 Protocol violation",
            "501 Syntax error in parameters or arguments",
            "555 5.5.2 Syntax error. gsmtp",
            "502 5.5.1 Unrecognized command. gsmtp",
            "503 5.5.1 EHLO/HELO first. gsmtp",
            "554 5.7.0 Too many Unauthenticated commands.",
            "503 5.5.1 Error: nested MAIL command",
        ),
    ),
    "rate": (
        (
            (
                "421 4.7.0 [TSS04] Messages from 1.2.3.4 temporarily deferred due "
                "to unexpected volume or user complaints - 4.16.55.1; see "
                "https://postmaster.yahooinc.com/error-codes"
            ),
            (
                "451 4.7.652 The mail server [1.2.3.4] has exceeded the maximum "
                "number of connections. (S843)"
            ),
            "451 4.7.500 Server busy. Please try again later from [1.2.3.4]. (AS761)",
            "432 4.3.2 Concurrent connections limit exceeded; STOREDRV",
            "421 Too many concurrent SMTP connections; please try again later.",
            (
                "421 4.2.0 resimta Throttled - try again later. Please see "
                "http://postmaster.comcast.net/smtp-error-codes.php#RL000003"
            ),
            "421 mwinf5c LPN007_405 Too many connections. Try later",
            "451 Ratelimit exceeded for 1.2.3.4, try later",
            "550 Domain frequency limited [example.com]. https://service.mail.qq.com/",
            "421 4.7.0 mx Error: too many errors",
            (
                "450 4.2.1 The user you are trying to contact is receiving mail at "
                "a rate that prevents additional messages"
            ),
            (
                "550 5.2.1 The user you are trying to contact is receiving mail at "
                "a rate that prevents additional messages from being delivered"
            ),
            "452 4.5.3 Too many recipients",
            "454 Throttling failure: Daily message quota exceeded.",
            "550 5.4.5 Daily sending quota exceeded",
            (
                "421 4.7.28 [1.2.3.4] Our system has detected an unusual rate of "
                "unsolicited mail. rate limited"
            ),
            (
                "421 RP-001 The mail server IP connecting to Outlook.com server "
                "has exceeded the rate limit allowed"
            ),
            "421 too many messages from your IP",
            "450 4.7.1 You've exceeded your sending limit to this domain.",
            (
                "550 5.7.1 Gmail has detected this message exceeded its quota for "
                "sending messages with the same Message-ID."
            ),
            (
                "421 4.7.1 [TS02] All messages from 203.0.113.7 temporarily "
                "deferred due to excessive complaints"
            ),
            "421 4.7.0 gmx.net Too many concurrent sessions",
            "421 4.1.0 203.0.113.7 Throttled - try again later. RL000003",
            "550 Connection frequency limited",
            "451 4.7.1 Received too many messages from a new or untrusted IP",
            "450 too frequent connects from 203.0.113.7, please try again later.",
            "550 5.4.5 You have reached a limit for sending mail",
            "554 Too many sessions for this host",
            "421 Too many connections from your host",
            "421 4.7.0 Connection rate limit exceeded for 203.0.113.7",
            "450 4.7.1 Quota exceeded: too many messages per minute",
            "451 Too many emails from this sender, wait an hour",
            "550 5.7.1 Hourly sending limit reached",
            "452 4.3.2 Connection rate limit exceeded",
            "421 4.4.5 Too many concurrent TCP connections",
            "450 Requested action aborted: rate exceeded",
            (
                "450-4.2.1 The user you are trying to contact is receiving mail at "
                "a rate that prevents additional messages from being delivered."
            ),
            (
                "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail "
                "containing one of your URL domains. To protect our users, mail "
                "has been temporarily rate limited"
            ),
            (
                "421 4.7.1 <unknown[203.0.113.7]>: Client host rejected: Too many "
                "connections"
            ),
            "450 4.7.1 The recipient has exceeded message rate limit. Try again later.",
            "421 Try again later: rate limit by ip",
            "550 Sender frequency limited",
            (
                "421 Too many concurrent SMTP connections from this IP address; "
                "please try again later."
            ),
            "550 5.4.6 Unusual sending activity detected",
            "421 4.7.0 Mailgun: too many messages to this domain",
        ),
        (),
    ),
    "recipient": (
        (
            (
                "450 4.1.1 <x@y>: Recipient address rejected: unverified address: "
                "Address verification in progress"
            ),
            "450 4.1.1 user temporarily unavailable",
            "450 4.2.1 Mailbox temporarily disabled",
            "451 Could not complete recipient verify callout",
            "450 4.2.0 mailbox locked",
        ),
        (
            (
                "550 5.1.1 <bob@corp.example>: Recipient address rejected: User "
                "unknown in local recipient table"
            ),
            (
                "550 5.1.1 bob@corp.example: Recipient address rejected: "
                "undeliverable address: host mail[10.0.0.1] said: 550 5.1.1 User "
                "unknown"
            ),
            (
                "550-5.1.1 The email account that you tried to reach does not "
                "exist. Please try double-checking 550 5.1.1 gsmtp"
            ),
            "554 delivery error: dd Not a valid recipient - mta1.mail.yahoo.com",
            (
                "554 30 Sorry, your message to x@yahoo.com cannot be delivered. "
                "This mailbox is disabled (554.30)."
            ),
            "552 1 Requested mail action aborted, mailbox not found",
            (
                "550 5.5.0 Requested action not taken: mailbox unavailable "
                "(S2017062302). [xx.prod.protection.outlook.com]"
            ),
            (
                "550 5.4.1 Recipient address rejected: Access denied. For more "
                "information see https://aka.ms/EXOSmtpErrors"
            ),
            (
                "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient x@y not "
                "found by SMTP address lookup"
            ),
            "550 5.0.350 Remote server returned an error -> 550 No such user",
            "550 5.1.1 <x@icloud.com>: user does not exist",
            "550 Requested action not taken: mailbox unavailable",
            "550 user unknown",
            (
                "550 Message was not accepted -- invalid mailbox.  Local mailbox "
                "x@mail.ru is unavailable: account is disabled"
            ),
            "550 Mailbox not found. http://service.mail.qq.com/cgi-bin/help?subtype=1",
            "550 User not found: x@163.com",
            "550 User suspended",
            "550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550",
            "550 5.2.1 Mailbox unavailable",
            "550 5.2.1 The email account that you tried to reach is disabled",
            "550 5.1.6 Mailbox has moved",
            "550 Unrouteable address",
            "550 5.1.3 Bad recipient address syntax",
            "501 5.1.3 Bad recipient address syntax",
            "550 no such user here",
            "556 5.1.10 Recipient address has null MX",
            "550 Mailbox is locked",
            "550 Recipient's mailbox has been suspended",
            (
                "550 5.1.1 Account closed due to inactivity. No forwarding "
                "information is available"
            ),
            "550 Callout verification failed: 550 No such user",
            "553 5.1.3 The recipient address <foo> is not a valid RFC 5321 address.",
            (
                "550 5.2.1 The email account that you tried to reach is inactive. "
                "Learn more"
            ),
            (
                "550-Requested action not taken: mailbox unavailable\n550 For "
                "explanation visit "
                "https://postmaster.web.de/en/case?c=r0302&i=ip&v=1.2.3.4"
            ),
            "550 5.1.1 unknown or illegal alias: x@t-online.de",
            "550 5.7.1 <x@laposte.net>: utilisateur inconnu",
            "550 non-local recipient verification failed",
            "550 mailbox unavailable: user is terminated",
            "550 Mailbox does not exist, or cannot be found",
            "550 5.1.1 Recipient rejected - Proofpoint",
            (
                "550 5.1.1 The email account that you tried to reach does not "
                "exist at this domain"
            ),
            "511 5.1.1 unknown address or alias: bob@example.org",
            "550 5.1.1 <bob@example.org> user unknown; rejecting",
            "550 Unknown user bob@docomo.ne.jp",
            "550 Invalid recipient: <bob@softbank.ne.jp>",
            "550 <bob@ezweb.ne.jp>: User unknown",
            "553 5.3.0 <bob@example.com>... No such user here",
            "554 5.1.1 account does not exist",
            "550 Mailbox closed: user moved to bob2@example.com",
            "550 5.1.1 Invalid mailbox: x. Mailgun: no such route",
            "550 5.1.1 <bob@libero.it>: Mailbox is not active",
            (
                "554 5.7.1 <bob@virgilio.it>: Recipient address rejected: account "
                "suspended"
            ),
            "550 5.1.1 Recipient not found. <http://x.co/irbounce>",
            "550 5.2.1 <bob@wp.pl>... Konto nieaktywne. Account inactive",
            "550 Benutzer nicht gefunden",
            "550 5.0.1 Recipient rejected",
            "550 5.1.1 RCP-P1 https://postmaster.free.fr recipient unknown",
            (
                "550 Unable to add <bob@example.com> because host example.com says "
                "550 5.1.1"
            ),
            "553 5.0.0 <bob@example.com>... User unknown, not local address",
            "550 Address invalid",
            "550 No thank you rejected: Account Unavailable : Possible Forgery",
            "550 sorry, this account has been disabled or discontinued [#102]",
            "554 This account has been temporarily suspended",
            "550 mailbox not local",
            "550 5.1.1 user reserved",
            "550 Address rejected",
            "550 RCPT TO:<bob@x> User unknown",
            "550 5.4.1 [bob@example.com]: Recipient address rejected: Access denied",
            "501 5.1.3 Invalid recipient address",
            "554 5.7.1 The message was rejected: bob@aol.com mailbox unavailable",
            "550 5.1.1 : Recipient address rejected: aol.com",
            "550-5.1.1 unknown address: bob@freenet.de",
            "550 5.1.1 Recipient rejected: adresse invalide",
            "550 Recipient email address is possibly incorrect",
            "550 5.1.0 <bob@x>: User unknown in relay recipient table",
            "554 5.5.1 Error: no valid recipients",
            "553 Sorry, no mailbox here by that name. vchkpw (#5.7.1)",
            "554 Message rejected: Address is on the suppression list",
            "550 5.1.1 Mailbox <bob@zoho> does not exist",
            "550 cannot route to recipient",
        ),
    ),
    "sender": (
        (
            "450 4.1.8 <a@b>: Sender address rejected: Domain not found",
            "450 4.1.8 sender address rejected: malformed DNS server reply",
        ),
        (
            "550 Sender verify failed",
            "550 5.1.8 <a@b>: Sender address rejected: Domain not found",
            "501 5.1.7 Invalid address",
            "553 5.1.8 Domain of sender address a@b does not exist",
            "554 Message rejected: Email address is not verified.",
            "550 5.1.0 Sender denied",
            "550 sender rejected",
            "550 5.7.27 Sender address has null MX",
            "554 5.7.1 Sender access denied",
            "550 Rejected: sender domain has no A or MX record",
            "553 sorry, your envelope sender domain must exist (#5.7.1)",
            "550 5.1.7 sender address invalid",
            "553 Sender address not allowed",
            "553 Envolope sender mismatch with header from.",
            (
                "550-Verification failed for <ann@example.com>\n550-The mail "
                "server could not deliver mail to ann@example.com.\n550 Sender "
                "verify failed"
            ),
            "553 5.5.4 <bob>... Domain name required for sender address bob",
            "554 Message rejected: Email address is not verified",
        ),
    ),
    "spam": (
        (
            (
                "421-4.7.0 [203.0.113.7 15] Our system has detected that this "
                "message is suspicious due to the nature of the content and/or the "
                "links within."
            ),
            "451 DT:SPM 163 smtp, please try later",
            "451 4.5.0 Message rejected due to spam. try again",
        ),
        (
            "554 5.7.1 [CS01] Message rejected due to local policy.",
            "552 5.2.0 Message contains content that may be spam",
            (
                "550 spam message rejected. Please visit "
                "http://help.mail.ru/notspam-support/id?c=x"
            ),
            "550 Mail content denied",
            "554 DT:SPM 126 smtp1",
            "554 Email rejected due to security policies - MCSpamSignature.x.x",
            "554 5.7.1 <u@x>: Sender address rejected: blocked using dbl.spamhaus.org",
            (
                "554 5.7.1 Blacklisted URL in message. (example.com) in [black]. "
                "See http://lookup.uribl.com"
            ),
            "550 5.7.1 Message blocked: URL in message listed on multi.surbl.org",
            "550 High probability of spam",
            (
                "554 5.7.1 The message from (<a@b>) with the subject of (hi) "
                "matches a profile the Internet community may consider spam. "
                "Please revise your message before resending."
            ),
            (
                "550 5.7.1 Our system has detected that this message is likely "
                "unsolicited mail"
            ),
            "550 5.7.1 Message rejected due to content restrictions",
            "550 5.7.1 Sorry, your message was deemed to be spam",
            "550 OU-002 Mail rejected by Outlook.com for policy reasons. content",
            "554 rejected: message content triggered filter",
            (
                "550 5.7.350 Remote server returned message detected as spam -> "
                "554 5.7.1 Message cannot be accepted, spam rejection"
            ),
            "554 Message not allowed - [PH01] Email not accepted for policy reasons.",
            "554 rejected due to spam URL in content",
            "554 5.7.1 Message rejected due to possible spam content",
            "550 5.2.0 Message rejected. CXSP spam",
            (
                "550 The mail server detected your message as spam and has "
                "prevented delivery."
            ),
            "550 Message rejected because of unacceptable content (cloudmark)",
            "550 high spamscore, rejected",
            "541 Message rejected by the recipient address: antispam",
            "550 This message scored 15.2 spam points.",
            "550 Message blocked by antispam engine, see policy 12",
            "550 Phishing detected",
            "554 Banned content",
            "550 Rejected by content scanner",
            "554 5.7.1 identified as junk",
            "571 5.7.1 Message contains spam or virus.",
            "550 5.7.1 Your email domain is blacklisted",
            "554 5.7.1 [P4] Message blocked due to spam content in the message.",
            (
                "550 Transaction failed: Reject due to policy restrictions. For "
                "explanation visit "
                "https://postmaster.gmx.net/en/error-messages?ip=203.0.113.7&c=hi"
            ),
            "550 5.7.0 Message rejected due to spam - see tosa@rx.t-online.de",
            "550 5.2.0 Mail rejete. Mail rejected. ofr_515 [515]",
            "554 5.7.1 [1] Message rejected under suspicion of SPAM",
            (
                "550 5.7.1 Mail suspected as spam. "
                "https://service.mail.qq.com/detail/0/101"
            ),
            "550 5.7.1 Message detected as spam by Cloudmark",
            "554 Service unavailable: sender domain listed on dbl.spamhaus.org",
            (
                '550-"The mail server detected your message as spam and has\n550 '
                'prevented delivery."'
            ),
        ),
    ),
    "tls": (
        (
            "454 4.7.0 TLS not available",
            "421 4.7.66 TLS 1.0 and 1.1 are not supported",
            (
                "450 4.4.317 Cannot connect to remote server [Message=451 5.7.3 "
                "STARTTLS is required to send mail]"
            ),
            (
                "451 4.7.5 Remote certificate failed MTA-STS validation. Reason: "
                "UntrustedRoot"
            ),
            "450 4.7.0 Server certificate not verified",
            "454 4.7.5 Certificate validation error",
            "454 4.7.0 TLS currently unavailable",
            "450 4.7.320 Certificate validation failed: certificate subject mismatch",
        ),
        (
            "530 5.7.0 Must issue a STARTTLS command first",
            "550 5.7.1 TLS required",
            "550 5.7.10 Encryption required",
            "550 5.7.4 Encryption required",
            "550 REQUIRETLS support required",
        ),
    ),
    "virus": (
        (),
        (
            "554 5.7.1 virus Eicar found",
            (
                "552 5.7.0 This message was blocked because its content presents a "
                "potential security issue."
            ),
            "550 Blocked attachment type",
            "554 5.7.0 Reject, id=12345-01 - BANNED: .exe,.exe-ms",
            "554 #5.3.0 message filtered: attachment not allowed",
            "550 5.7.1 Attachment rejected: application/zip",
            "554 5.7.1 Executable files are not accepted",
            "550 Infected with Win.Test.EICAR_HDB-1",
            "554 virus detected",
            "550 ClamAV: message rejected",
            (
                "552-5.7.0 This message was blocked because its content presents a "
                "potential security issue."
            ),
        ),
    ),
}
