"""What stands between sensors, model and arm: they refuse, clamp or hold."""
