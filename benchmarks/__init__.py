"""Measurements behind the figures in the documentation; each writes raw results under ``benchmarks/results/``."""
