"""The command lines of the build machine: click, and nothing else."""
