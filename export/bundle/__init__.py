"""What every recipe writes a bundle with: files, receipts, profiles, what the engine says of a graph."""
