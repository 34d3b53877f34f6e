"""Tests: they mirror fwd_mta/, one file per module, and add contracts and journeys."""
