"""The `kadre` command: one thin module a command.

Law: a command reads its arguments, calls one function of a lower room and prints; it decides nothing.
"""
