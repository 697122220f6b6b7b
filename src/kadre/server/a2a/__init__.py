"""The A2A door: agents as A2A servers, over the same runs as every other door.

What is imported before the first request (`cards`) knows nothing of the SDK; what knows it is loaded with that request.
A context is a session, a task is a run: nothing is kept here, the journal has it.
"""
