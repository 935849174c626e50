"""The command `headway`: parses, prints, exits. Nothing heavy is loaded before a verb needs it."""

from headway.cli.program import main

__all__ = ["main"]
