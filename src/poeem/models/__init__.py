"""Towers that turn users and items into vectors, for those who do not bring their own."""
