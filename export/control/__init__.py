"""A checkpoint of a family that acts becomes a bundle that controls a robot."""
