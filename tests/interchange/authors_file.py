"""Writes the authors' index file by its layout, for tests; nothing of it is checked."""

import struct

import numpy as np


def authors_bytes(
    codes, codebook, ids, norms, centroids, assignments, *, use_residual=1, counts=None
):
    """Return the bytes of a file; `counts` replaces n, d, n_cluster, K, D where it is given."""
    n, num_subspaces = codes.shape
    num_lists, dim = centroids.shape
    right = {"n": n, "d": dim, "n_cluster": num_lists, "K": codebook.shape[1], "D": num_subspaces}
    header = struct.pack("<b5q", use_residual, *(right | (counts or {})).values())
    arrays = (
        (codebook, "<f4"),
        (ids, "<i8"),
        (norms, "<f4"),
        (codes, "<u1" if codebook.shape[1] <= 256 else "<u2"),
        (centroids, "<f4"),
        (assignments, "<u4"),
    )
    return header + b"".join(np.asarray(array).astype(dtype).tobytes() for array, dtype in arrays)


def random_file(seed=0, num_items=300, num_subspaces=4, num_codewords=20, sub_dim=3, num_lists=6):
    """Return the arguments of `authors_bytes` for a random index; norms are those of T(x)."""
    rng = np.random.default_rng(seed)
    codebook = rng.standard_normal((num_subspaces, num_codewords, sub_dim)).astype(np.float32)
    arrays = {
        "codes": rng.integers(0, num_codewords, (num_items, num_subspaces)),
        "codebook": codebook,
        "ids": rng.permutation(10**6)[:num_items] * 10**7,
        "centroids": rng.standard_normal((num_lists, num_subspaces * sub_dim)).astype(np.float32),
        "assignments": rng.integers(0, num_lists, num_items),
    }
    arrays["norms"] = np.linalg.norm(vectors_of(arrays), axis=1)
    return arrays


def vectors_of(arrays, use_residual=1):
    """Return T(x) of each item of a file, float64 [n, d]."""
    num_subspaces = arrays["codebook"].shape[0]
    words = arrays["codebook"][np.arange(num_subspaces), arrays["codes"]].astype(np.float64)
    vectors = words.reshape(len(words), -1)
    return vectors + arrays["centroids"][arrays["assignments"]] if use_residual else vectors
