"""What executes one graph."""
