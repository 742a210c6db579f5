"""What a checkpoint will cost, before it is exported: from its configuration and the headers of its weight files."""
