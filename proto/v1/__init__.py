"""Generated wire messages, version 1."""
