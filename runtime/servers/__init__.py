"""Transports: they move bytes only."""
