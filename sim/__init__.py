"""The closed loop: a simulator, experts, evaluation through the real daemon."""
