"""The command `poeem`: one file a verb. Importing it loads neither torch nor typer."""

import os

# torch's threads wait for their next work by spinning, for milliseconds, on cores that the threads
# of our own encoder want; its OpenMP looks at this when it is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
