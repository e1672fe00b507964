"""Judges: how sure may one be of the best answer so far? Plugins like all others; planners that stop early have one."""
