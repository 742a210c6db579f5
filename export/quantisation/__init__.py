"""A finished bundle, measured on frames and written again with fewer bits beside its float32 graphs."""
