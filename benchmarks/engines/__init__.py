"""Engines side by side, in one run, beside what the machine can do at best."""
