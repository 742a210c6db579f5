"""The robot's side of a session: chunks are asked for in the background, commands go out at the robot's rate."""
