"""The one place where faiss is imported, so that its absence is reported in one way."""

from __future__ import annotations

from types import ModuleType

from poeem.errors import MissingDependencyError, install_hint


def require_faiss() -> ModuleType:
    """Return faiss. Raises MissingDependencyError: it is not installed."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        if error.name != "faiss":
            raise
        message = f"this needs faiss, which is not installed; {install_hint('faiss')}"
        raise MissingDependencyError(message) from error
    module: ModuleType = faiss
    return module
