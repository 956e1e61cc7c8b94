"""Are the changes beside an index what a writer wrote, and do they fit the index?"""

from __future__ import annotations

import os
from typing import Any

from poeem.errors import ChangesError, IndexFileError, NonFiniteError
from poeem.live.changes import Changes
from poeem.live.loading import load
from poeem.live.places import Places
from poeem.live.writer_lock import record_of


def check_changes(path: Any) -> IndexFileError | None:
    """Return what is wrong with the changes beside an index file; None if nothing is.

    Looks at all of the database, checks every change that counts (checksum, ids, codes, lists,
    titles, norms), whether they are of this index, and whether the last ones that were acknowledged
    are there. Takes no lock; a writer may go on meanwhile.

    Raises:
        DtypeError: path is no path.
    """
    places = Places.of(path)
    try:
        record = record_of(places.writer)
        if not os.path.exists(places.changes):
            load(places, None, record, verify=False)
            return None
        changes = Changes(places.changes, writable=False)
        try:
            changes.check_whole()
            load(places, changes, record, verify=False)
        finally:
            changes.close()
    except IndexFileError as error:
        return error
    except NonFiniteError:
        return ChangesError(f"{places.changes}: items whose norms overflow float32")
    return None


def has_changes(path: Any) -> bool:
    """Return whether there is anything beside an index file to check."""
    places = Places.of(path)
    return os.path.exists(places.changes) or os.path.exists(places.writer)
