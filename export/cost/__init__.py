"""What a model costs, in one place: multiply-accumulates, weights, keys and values, of every kind of step."""
