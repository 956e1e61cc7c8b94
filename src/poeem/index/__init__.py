"""The index: build it, save it, open it, search it. Never imports torch."""

from poeem.index.builder import build_index, build_index_from_codes
from poeem.index.index import Index
from poeem.index.kernels import active_kernel, available_kernels
from poeem.index.refresh import refresh_index

__all__ = [
    "Index",
    "active_kernel",
    "available_kernels",
    "build_index",
    "build_index_from_codes",
    "refresh_index",
]
