"""Doors: each module turns one wire form into runs and events back into that form.

Law: a door holds no state of a run; it asks the host and reads events.
"""
