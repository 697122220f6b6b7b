"""Runs plans: messages, events, the loop, models, tools, memory, the host.

Law: nothing here has seen YAML. A plan comes in, events come out; doors, files and Kubernetes are above.
"""
