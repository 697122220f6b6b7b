"""Vector stores: texts kept with their vectors, found again by likeness.

Law: a store knows vectors, texts and metadata, and nothing of what they are for: no tool, no memory, no model.
"""
