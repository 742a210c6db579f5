"""A checkpoint of a family that answers becomes a bundle that answers questions about pictures."""
