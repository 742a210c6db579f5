"""Evaluations too long for one process: cut into blocks of seeds, run by many workers, merged as if by one."""
