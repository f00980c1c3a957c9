"""What weft notices about a program that runs on it: lost work, and the report of a run.

Nothing here is imported before something is wrong, or is asked for.
"""
