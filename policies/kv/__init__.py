"""Selection over the KV cache of generating models."""
