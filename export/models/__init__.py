"""The decoder and the vision towers that all families share."""
