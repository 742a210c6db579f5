"""The language-conditioned tabletop."""
