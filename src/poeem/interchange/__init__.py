"""Indexes of other programs, in and out: Faiss, the authors' release, and plain arrays."""
