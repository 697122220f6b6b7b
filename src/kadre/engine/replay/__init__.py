"""Runs that were recorded, played again: what a model and tools said then is said to the agent as it is declared now.

Law: nothing here opens a connection. A case comes in and what the agent makes of it comes out; files are above.
"""
