"""What runs in the interpreter that has the published classes; it imports nothing of saccade."""
