"""What mail is: frozen nouns, the grammar of addresses and header fields.

Doorway: the nouns themselves (`Mailbox`, `Envelope`, `Message`, `QueueEntry`, ...).
May import: the standard library only.
"""
