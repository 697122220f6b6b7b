"""The laptop: files in, an agent host out; watching, MCP processes, the embedded model's supervisor.

Law: it decides nothing that `plan` or `engine` could decide; it only provides what a cluster would.
"""
