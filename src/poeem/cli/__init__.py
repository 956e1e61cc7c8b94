"""The command `poeem`: one file a verb. Importing it loads neither torch nor typer."""
