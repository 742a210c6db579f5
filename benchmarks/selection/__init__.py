"""Every token-selection policy on saccade-mini: success, action error, tokens, MACs, latency."""
