"""How much each view matters in a task: told by the client, or found out by a second bundle beside the robot's."""
