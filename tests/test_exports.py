"""The public file lists what is there, and nothing else."""

import importlib.metadata

import pytest

import poeem


def test_all_is_sorted_and_real():
    assert poeem.__all__ == sorted(poeem.__all__)
    assert len(set(poeem.__all__)) == len(poeem.__all__)
    for name in poeem.__all__:
        assert getattr(poeem, name) is not None, name
    assert dir(poeem) == poeem.__all__


def test_everything_public_is_listed():
    import types

    public = {
        name
        for name, value in vars(poeem).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    imported = {"annotations", "importlib", "Any", "TYPE_CHECKING"}
    assert public - imported <= set(poeem.__all__)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="NoSuchThing"):
        poeem.NoSuchThing  # noqa: B018


def test_the_version_is_that_of_the_package():
    """It is written down twice: a checkout without its metadata must still build an index."""
    assert poeem.__version__ == importlib.metadata.version("torch-poeem")
