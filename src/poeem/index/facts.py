"""What is said of an index to people and to programs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from poeem.index.contents import IndexContents
from poeem.index.format import tensors_of
from poeem.index.header import normalisation_of, version_of
from poeem.index.histogram import histogram
from poeem.index.validate import as_they_are


def facts_of(contents: IndexContents) -> dict[str, Any]:
    """Return all there is to know about an index, as JSON values; sizes in bytes."""
    contents = as_they_are(contents)
    part_bytes = {name: tensor.nbytes for name, tensor in tensors_of(contents).items()}
    total = sum(part_bytes.values())
    has_metric = contents.encoding.error_metric is not None
    facts: dict[str, Any] = {
        "format_version": version_of(contents.family, error_metric=has_metric),
        "metric": str(contents.metric),
        "normalisation": normalisation_of(contents.metric),
        "family": str(contents.family),
        "dim": contents.dim,
        "num_items": contents.num_items,
        "num_lists": contents.num_lists,
        "num_subspaces": contents.num_subspaces,
        "num_codewords": contents.num_codewords,
        "code_bits": contents.code_bits,
        "has_rotation": contents.rotation is not None,
        "has_titles": contents.titles is not None,
        "encoding": {**dataclasses.asdict(contents.encoding), "error_metric": has_metric},
        "code_bytes_per_item": contents.codes.itemsize * contents.codes.shape[1],
        "bytes_per_item": total / contents.num_items,
        "total_bytes": total,
        "part_bytes": part_bytes,
        "created": contents.created,
        "library_version": contents.library_version,
        "lineage": dict(contents.lineage),
    }
    if contents.list_offsets is not None:
        facts["list_sizes"] = _list_sizes(np.diff(contents.list_offsets))
    if contents.calibration is not None:
        facts["calibration"] = dataclasses.asdict(contents.calibration)
    return facts


def _list_sizes(sizes: Any) -> dict[str, Any]:
    """Return figures of the items in each list, int64 [num_lists]."""
    return {
        "min": int(sizes.min()),
        "median": float(np.median(sizes)),
        "max": int(sizes.max()),
        "empty": int((sizes == 0).sum()),
        "histogram": histogram(sizes),
    }
