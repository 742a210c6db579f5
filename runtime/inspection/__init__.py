"""``saccade inspect``: what a bundle or a checkpoint costs on known machines, and whether pruning pays there."""
