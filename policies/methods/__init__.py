"""One file for each token-selection method."""
