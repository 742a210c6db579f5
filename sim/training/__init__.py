"""Training saccade-mini (the only part of sim that imports torch)."""
