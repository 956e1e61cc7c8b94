"""Train a retrieval model and its search index as one; search it without torch.

Names that need torch or faiss load them on first use, so that a search host never does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from poeem.errors import (
    ChangedIndexError,
    ChangesError,
    CheckpointError,
    ChecksumError,
    CodesError,
    ConfigError,
    CorruptIndexError,
    DataError,
    DtypeError,
    HeaderError,
    IdError,
    IndexFileError,
    IndexLockedError,
    IndexVersionError,
    InputError,
    LayoutError,
    LineageError,
    MissingColumnError,
    MissingDependencyError,
    NonFiniteError,
    NormsError,
    NotAnIndexError,
    NotWarmError,
    OffsetsError,
    PoeemError,
    RotationError,
    SaveError,
    ShapeError,
    StoredFloatsError,
    StoredIdsError,
    TensorError,
    TitlesError,
    TrainingInterrupted,
    TruncatedIndexError,
    UnparsableRowsError,
    UnsupportedIndexError,
)
from poeem.errors import install_hint as _install_hint
from poeem.index import Index, build_index, build_index_from_codes, refresh_index
from poeem.live import LiveIndex, LiveView, PendingChanges, pending_changes, swap_index
from poeem.types import (
    Encoding,
    Metric,
    QuantizerParts,
    SearchResult,
    TrainedQuantizer,
    __version__,
)

if TYPE_CHECKING:
    from poeem.interchange.authors import import_authors_index
    from poeem.interchange.faiss_export import export_faiss, to_faiss
    from poeem.interchange.faiss_import import import_faiss
    from poeem.interchange.npz import export_npz, import_npz
    from poeem.interchange.parquet import export_parquet, import_parquet
    from poeem.quantize.givens import GivensDescent
    from poeem.quantize.health import CodeHealth
    from poeem.quantize.layer import IndexLayer, IndexOutput
    from poeem.quantize.layer_state import Phase
    from poeem.training.losses import distillation_loss, in_batch_softmax, list_softmax
    from poeem.training.refresh import refresh
    from poeem.training.trained import TrainedRun

_ON_FIRST_USE = {
    "CodeHealth": "poeem.quantize.health",
    "GivensDescent": "poeem.quantize.givens",
    "IndexLayer": "poeem.quantize.layer",
    "IndexOutput": "poeem.quantize.layer",
    "Phase": "poeem.quantize.layer_state",
    "TrainedRun": "poeem.training.trained",
    "distillation_loss": "poeem.training.losses",
    "export_faiss": "poeem.interchange.faiss_export",
    "export_npz": "poeem.interchange.npz",
    "export_parquet": "poeem.interchange.parquet",
    "import_authors_index": "poeem.interchange.authors",
    "import_faiss": "poeem.interchange.faiss_import",
    "import_npz": "poeem.interchange.npz",
    "import_parquet": "poeem.interchange.parquet",
    "in_batch_softmax": "poeem.training.losses",
    "list_softmax": "poeem.training.losses",
    "refresh": "poeem.training.refresh",
    "to_faiss": "poeem.interchange.faiss_export",
}

__all__ = [
    "ChangedIndexError",
    "ChangesError",
    "CheckpointError",
    "ChecksumError",
    "CodeHealth",
    "CodesError",
    "ConfigError",
    "CorruptIndexError",
    "DataError",
    "DtypeError",
    "Encoding",
    "GivensDescent",
    "HeaderError",
    "IdError",
    "Index",
    "IndexFileError",
    "IndexLayer",
    "IndexLockedError",
    "IndexOutput",
    "IndexVersionError",
    "InputError",
    "LayoutError",
    "LineageError",
    "LiveIndex",
    "LiveView",
    "Metric",
    "MissingColumnError",
    "MissingDependencyError",
    "NonFiniteError",
    "NormsError",
    "NotAnIndexError",
    "NotWarmError",
    "OffsetsError",
    "PendingChanges",
    "Phase",
    "PoeemError",
    "QuantizerParts",
    "RotationError",
    "SaveError",
    "SearchResult",
    "ShapeError",
    "StoredFloatsError",
    "StoredIdsError",
    "TensorError",
    "TitlesError",
    "TrainedQuantizer",
    "TrainedRun",
    "TrainingInterrupted",
    "TruncatedIndexError",
    "UnparsableRowsError",
    "UnsupportedIndexError",
    "__version__",
    "build_index",
    "build_index_from_codes",
    "distillation_loss",
    "export_faiss",
    "export_npz",
    "export_parquet",
    "import_authors_index",
    "import_faiss",
    "import_npz",
    "import_parquet",
    "in_batch_softmax",
    "list_softmax",
    "pending_changes",
    "refresh",
    "refresh_index",
    "swap_index",
    "to_faiss",
]


def __getattr__(name: str) -> Any:
    """Load what a search host does without when it is first asked for.

    Raises:
        MissingDependencyError: torch is not installed.
    """
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'poeem' has no attribute {name!r}")
    try:
        module = importlib.import_module(_ON_FIRST_USE[name])
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        message = f"poeem.{name} needs torch; {_install_hint('train')}"
        raise MissingDependencyError(message) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
