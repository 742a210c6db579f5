"""Folders that look like a checkpoint that is read here and are none: what each is, why not, and what to do.

A module for each kind; each has functions from a folder to a message, or None where the folder is something else.
"""
