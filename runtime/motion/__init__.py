"""From chunks to the commands that a robot gets at its own rate: limits, seams, hold. NumPy alone, no clock, no thread."""
