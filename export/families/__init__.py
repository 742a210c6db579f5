"""The model families, a folder each: model, configuration, checkpoint; beside them what they share."""
