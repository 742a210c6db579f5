"""A checkpoint or a bundle against the class that was published with it, stage by stage."""
