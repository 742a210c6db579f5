"""Which profile runs next, where a deadline has to be held."""
