"""Contracts: everything two programs must agree on."""
