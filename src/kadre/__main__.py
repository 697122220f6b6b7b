"""`python -m kadre`: the same as the command."""

from kadre.cli.main import main

main()
