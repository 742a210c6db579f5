"""From chunks to the commands that a robot gets at its own rate: limits, seams, hold. No clock and no thread."""
