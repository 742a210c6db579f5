"""Placing a policy, capturing and checking the graph."""
