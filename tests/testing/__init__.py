"""A mail server for the tests of others."""
