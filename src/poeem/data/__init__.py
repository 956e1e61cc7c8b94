"""Interaction tables, text sets, their splits, and data made on the spot."""

from poeem.data.download import REMOTE_SETS, RemoteSet, download, download_dataset
from poeem.data.interactions import Interactions, load_interactions
from poeem.data.split import Split, group_by_user, split_interactions, split_queries
from poeem.data.synthetic import (
    TutorialData,
    clustered_vectors,
    iter_clustered_vectors,
    tutorial_dataset,
)
from poeem.data.texts import TextSet, load_text_set
from poeem.data.tokens import Bags, token_bags

__all__ = [
    "REMOTE_SETS",
    "Bags",
    "Interactions",
    "RemoteSet",
    "Split",
    "TextSet",
    "TutorialData",
    "clustered_vectors",
    "download",
    "download_dataset",
    "group_by_user",
    "iter_clustered_vectors",
    "load_interactions",
    "load_text_set",
    "split_interactions",
    "split_queries",
    "token_bags",
    "tutorial_dataset",
]
