"""What users write: one pydantic model per kind, every spelling of the documents, with line numbers.

Law: no I/O and no references followed. Text comes in; resources and Problems go out.
"""
