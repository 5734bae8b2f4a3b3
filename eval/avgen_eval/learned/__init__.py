"""Metrics with networks of the project's own: small, trained on the worlds, named by the hash of their weights."""
