"""Search of a policy's options on unlabelled frames."""
