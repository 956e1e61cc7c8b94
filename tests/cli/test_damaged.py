"""Damaged arrays and tables, and what else new users met: one line of an error, or an answer."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import poeem
from poeem.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DtypeError,
    InputError,
    NotAnIndexError,
    NotWarmError,
    PoeemError,
)
from poeem.training.state import TrainingState
from tests.cli.conftest import SMALL, Call, write_table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    call = Call("train", write_table(folder / "table.csv"), "--out", folder / "run", *SMALL)
    assert call.code == 0, call.err
    return folder / "run"


def damaged(tmp_path, kind):
    """Return the path of an array file that is none any more."""
    path = tmp_path / f"{kind}.npz"
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "header":
        path = path.with_suffix(".npy")
        np.save(path, np.zeros((3, 16), np.float32))
        path.write_bytes(path.read_bytes()[:20] + b"(" * 10 + path.read_bytes()[30:])
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name in ("user", "item", "codes", "offsets"):
                file.writestr(f"{name}.npy", b"x" * 1000)
        whole = path.read_bytes()
        changed = {
            "cut": whole[:150],
            "method": whole.replace(b"\x08\x00", b"\x09\x00"),  # Deflate64, which Python lacks
            "members": whole,
        }
        path.write_bytes(changed[kind])
    return path


KINDS = ["text", "empty", "header", "cut", "method", "members"]


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_arrays(run, tmp_path, kind):
    path = damaged(tmp_path, kind)
    call = Call("search", run / "items.poeem", "--query-vectors", path)
    assert (call.code, call.err.count("error: --query-vectors")) == (3, 1)
    assert "allow_pickle" not in call.err
    call = Call("train", path.rename(tmp_path / "t.npz"), "--out", tmp_path / "run")
    assert call.code == 3
    with pytest.raises(NotAnIndexError if kind != "members" else PoeemError) as caught:
        poeem.import_npz(tmp_path / "t.npz")
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_ids_of_a_run(run, tmp_path, kind):
    copy = tmp_path / "run"
    copy.mkdir()
    for name in os.listdir(run):
        if name != "ids.npz":
            os.symlink(run / name, copy / name)
    damaged(tmp_path, kind).rename(copy / "ids.npz")
    with pytest.raises(CheckpointError, match=r"ids\.npz"):
        poeem.TrainedRun.load(copy)


def test_parquet_that_is_no_utf_8(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    raw = pa.array([b"caf\xe9", None, b"b", "caf\xe9".encode()] * 40, pa.binary())
    text = pa.StringArray.from_buffers(
        len(raw), raw.buffers()[1], raw.buffers()[2], raw.buffers()[0]
    )
    users = [f"u{row % 7}" for row in range(len(raw))]
    for column in (raw, text, text.dictionary_encode()):
        parquet.write_table(pa.table({"user": users, "item": column}), tmp_path / "t.parquet")
        config = poeem.config.DataConfig(path=str(tmp_path / "t.parquet"))
        with pytest.raises(DataError, match=r"item or one that is no UTF-8 \(rows 1, "):
            poeem.data.load_interactions(config)
        config = poeem.config.DataConfig(path=config.path, on_bad_rows="skip")
        found = poeem.data.load_interactions(config)
        assert {"b", "caf\xe9"} <= set(found.item_ids.tolist()) <= {"", "b", "caf\xe9"}


def test_a_row_of_too_many_fields_that_is_no_utf_8(tmp_path, recwarn):
    path = tmp_path / "t.csv"
    path.write_bytes(b"user,item\n" + b"u1,i1\nu2,i2\n" * 15 + b"caf\xe9,i1,extra\n")
    found = poeem.data.load_interactions(
        poeem.config.DataConfig(path=str(path), on_bad_rows="skip")
    )
    assert found.num_skipped_rows == 1
    assert not list(recwarn)  # pytest warns of errors that nobody could catch


@pytest.mark.parametrize("device", ["mps", "meta", "foo"])
def test_devices_that_nothing_was_tried_on(tmp_path, device):
    table = write_table(tmp_path / "table.csv")
    call = Call("train", table, "--out", tmp_path / "run", "--device", device, *SMALL)
    assert (call.code, call.err.count("wanted cpu, cuda or cuda:N")) == (2, 1)


def test_a_small_catalogue_is_compared_as_far_as_it_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = write_table(tmp_path / "table.csv")
    words = ("--epochs", "2", "--only", "float,ours", "--bytes", "4", "--num-codewords", "256")
    call = Call("compare", table, *words, "--dim", "8", "--out", tmp_path)
    assert call.code == 0, call.err
    assert "set fewer of them, say with --num-codewords 16" in call.err + call.out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_to_a_full_disk(run):
    command = [sys.executable, "-m", "poeem", "inspect", str(run), "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (6, 1), done.stderr


def test_a_run_that_is_not_warm_says_how_to_go_on(run, monkeypatch):
    monkeypatch.setattr(TrainingState, "is_warm", False)
    with pytest.raises(NotWarmError, match=f"poeem train --out {run} --resume"):
        poeem.training.trained.build_run(run)


def test_paths_that_are_none(run, tmp_path):
    index = poeem.Index.open(run / "items.poeem")
    for call in (
        lambda path: poeem.export_npz(index, path),
        lambda path: poeem.export_parquet(index, path),
        poeem.import_npz,
        poeem.import_parquet,
        poeem.import_authors_index,
        poeem.Index.open,
        poeem.LiveIndex.open,
        poeem.TrainedRun.load,
        index.save,
    ):
        with pytest.raises(DtypeError, match="got None, wanted a path"):
            call(None)
        with pytest.raises(InputError, match="got an empty one"):
            call("")
    with pytest.raises(DtypeError, match=r"got NoneType, wanted a poeem\.Index"):
        poeem.swap_index(tmp_path / "new.poeem", None)
    long = tmp_path / ("\u00e9" * 120 + "ab")  # 242 bytes
    index.save(long)
    assert poeem.Index.open(long).num_items == index.num_items


def test_ids_that_are_no_list(run):
    trained = poeem.TrainedRun.load(run)
    for bad in (5, [["1", "2"]], np.array([["1", "2"]])):
        for argument in ("users", "history"):
            with pytest.raises(DtypeError, match=f"{argument}: got .*wanted a"):
                trained.query_vectors(**{argument: bad})


def test_numbers_of_numpy_and_views_between_numbers(run):
    index = poeem.Index.open(run / "items.poeem")
    queries = np.random.default_rng(0).standard_normal((3, index.dim)).astype(np.float32)
    shifted = np.frombuffer(b"x" + queries.tobytes(), np.float32, offset=1).reshape(3, -1)
    assert not shifted.flags.aligned
    assert (index.search(shifted, 5).ids == index.search(queries, 5).ids).all()
    encoding = poeem.Encoding(beam=np.int64(4), parallel_weight=np.float64(2))
    parts = poeem.index.arguments.check_encoding(encoding, 8, "residual")
    assert (type(parts.beam), type(parts.parallel_weight)) == (int, float)
    for bad in (0, True, "4", 2.5):
        with pytest.raises(ConfigError, match="beam: got"):
            poeem.index.arguments.check_encoding(poeem.Encoding(beam=bad), 8, "residual")
