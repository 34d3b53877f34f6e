"""Catalogues: what others may do to us, a row each, and what must come of it."""
