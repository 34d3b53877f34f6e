"""What the bytes mean: RFC 5321's grammar, read and written, without any I/O.

Doorway: `commands.parse`, `replies.ReplyReader`, `data.DataReader`, `data.DotEncoder`.
May import: `mail`.
"""
