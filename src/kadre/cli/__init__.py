"""The `kadre` command: one thin module a command."""
