"""Tests mirror the five folders; reusable conformance suites live in ``tests.contracts``."""
