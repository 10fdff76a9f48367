"""Run a part of this package: ``python -m builtin_pair --help`` lists the subcommands."""

from builtin_pair.cli import app

app(prog_name="python -m builtin_pair")
