"""``saccade bench``: how long a bundle's control steps take on this machine, beside what the machine can do at best."""
