"""The closed loop: a simulator, scripted experts, evaluation through the real daemon."""
