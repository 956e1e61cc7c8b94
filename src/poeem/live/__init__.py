"""An index that changes while it is searched; every change is durable. Never imports torch."""

from poeem.live.live_index import LiveIndex, swap_index
from poeem.live.pending import PendingChanges, pending_changes
from poeem.live.verify import check_changes, has_changes
from poeem.live.view import LiveView

__all__ = [
    "LiveIndex",
    "LiveView",
    "PendingChanges",
    "check_changes",
    "has_changes",
    "pending_changes",
    "swap_index",
]
