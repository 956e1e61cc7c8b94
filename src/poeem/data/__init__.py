"""Interaction tables, their splits, and data made on the spot."""

from poeem.data.download import REMOTE_SETS, RemoteSet, download, download_dataset
from poeem.data.interactions import Interactions, load_interactions
from poeem.data.split import Split, group_by_user, split_interactions
from poeem.data.synthetic import (
    TutorialData,
    clustered_vectors,
    iter_clustered_vectors,
    tutorial_dataset,
)

__all__ = [
    "REMOTE_SETS",
    "Interactions",
    "RemoteSet",
    "Split",
    "TutorialData",
    "clustered_vectors",
    "download",
    "download_dataset",
    "group_by_user",
    "iter_clustered_vectors",
    "load_interactions",
    "split_interactions",
    "tutorial_dataset",
]
