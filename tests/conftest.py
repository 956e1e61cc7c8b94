"""Shared by all tests."""

from __future__ import annotations

from hypothesis import settings

# Two cores shared by several workers: a deadline per example would only measure the neighbours.
settings.register_profile("poeem", deadline=None, print_blob=True)
settings.load_profile("poeem")
