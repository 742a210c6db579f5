"""``saccade selftest``: everything that this machine can run of a bundle, in one file that can be sent on."""
