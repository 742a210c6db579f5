"""Reads published checkpoints: configuration files, weight shards, and the rules that bring both to our names."""
