"""The entry point of `poeem`. It must also start where typer is missing, to say so in one line."""

from __future__ import annotations

from poeem.cli.exits import reported


@reported
def main() -> None:
    """Run the command line and exit with a code of `poeem.cli.exits`."""
    from poeem.cli.app import app

    app(prog_name="poeem")
