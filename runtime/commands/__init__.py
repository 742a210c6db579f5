"""The command lines of the robot's side: click, and nothing else."""
