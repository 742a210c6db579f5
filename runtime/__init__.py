"""Bundle to actions: the robot's side."""
