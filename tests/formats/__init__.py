"""Stores written by released versions: every later version reads them."""
