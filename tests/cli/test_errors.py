"""What goes wrong ends with one line, a code, and no traceback."""

import os
import stat

import numpy as np
import pytest

from poeem.cli.exits import EXITS, exit_code
from poeem.errors import LineageError, MissingColumnError, NotWarmError, PoeemError
from tests.cli.conftest import SMALL, Call, subprocess_call


def fails(code, *arguments):
    """Call the command line, which must fail with `code`, and return its line."""
    call = Call(*arguments)
    assert call.code == code, call.err
    assert call.out == ""
    lines = call.err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def test_a_missing_column(table, tmp_path):
    line = fails(3, "train", table, "--out", tmp_path / "run", "--user-column", "customer")
    assert "customer" in line
    assert "timestamp" in line  # the columns that are there
    assert "--user-column" in line


@pytest.mark.parametrize("mark", [";", "|", "\t"])
def test_fields_divided_by_something_else(table, tmp_path, mark):
    text = table.read_text().replace("user", "who")  # not by any of them are there the columns
    (tmp_path / "table.csv").write_text(text.replace(",", mark))
    name = {";": "semicolon", "|": "bar", "\t": "tab"}[mark]
    line = fails(3, "train", tmp_path / "table.csv", "--out", tmp_path / "run")
    assert f"seem to be divided by {name}, wanted comma" in line


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_text_in_utf_16(table, tmp_path, encoding):
    (tmp_path / "table.csv").write_text(table.read_text(), encoding=encoding)
    assert "UTF-16" in fails(3, "train", tmp_path / "table.csv", "--out", tmp_path / "run")


def test_bad_rows_are_counted_and_named_by_line(tmp_path):
    file = tmp_path / "bad.csv"
    file.write_text("user,item,timestamp\n1,2,3\n,2,3\n4,,5\n")
    line = fails(3, "train", file, "--out", tmp_path / "run")
    assert "2 of 3" in line or "2 " in line
    assert "--on-bad-rows skip" in line
    assert "3" in line


@pytest.mark.parametrize("command", ["search", "train", "inspect", "verify", "evaluate", "import"])
def test_names_longer_than_a_system_takes(tmp_path, command):
    long = tmp_path / ("x" * 300)
    more = [tmp_path / "out"] if command == "import" else ["--out", long] * (command == "train")
    call = Call(command, long, *more)
    assert call.code in (2, 3, 4, 5, 6)
    assert call.err.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in call.err


def test_saving_where_a_device_or_a_pipe_is(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    line = fails(6, "build", run, "--out", tmp_path / "pipe")
    assert "it is no file, and would be replaced by one" in line
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_no_such_index(tmp_path):
    for more in (("--user", "7"), ("--like", "7"), ("--model", tmp_path, "--user", "7")):
        assert "no such file or folder" in fails(4, "search", tmp_path / "typo", *more)


def test_no_such_table(tmp_path):
    assert "no file" in fails(3, "train", tmp_path / "none.csv", "--out", tmp_path / "run")


def test_too_few_items_is_said_before_the_training(table, tmp_path):
    line = fails(3, "train", table, "--out", tmp_path / "run", "--num-codewords", "256")
    assert "items: got 40, wanted at least 256" in line
    assert not (tmp_path / "run").exists()


def test_a_warm_start_that_never_comes(table, tmp_path):
    line = fails(2, "train", table, "--out", tmp_path / "run", *SMALL, "--warm-start-epoch", "3")
    assert "--warm-start-epoch: got 3, wanted less than epochs (3)" in line


def test_a_run_is_not_overwritten_unless_asked(table, run):
    before = (run / "checkpoint.safetensors").read_bytes()
    assert "--overwrite" in fails(3, "train", table, "--out", run, *SMALL)
    assert (run / "checkpoint.safetensors").read_bytes() == before


def test_train_without_a_folder(table):
    assert "--out" in fails(2, "train", table)


def test_an_index_cut_short(run, tmp_path):
    file = tmp_path / "short.poeem"
    file.write_bytes((run / "items.poeem").read_bytes()[:-10])
    assert "short.poeem" in fails(4, "search", file, "--like", "A7")
    assert "short.poeem" in fails(4, "inspect", file)


def test_an_index_with_a_flipped_byte(run, tmp_path):
    file = tmp_path / "flipped.poeem"
    data = bytearray((run / "items.poeem").read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert "checksum" in fails(4, "inspect", file)


def test_no_index_at_all(table):
    assert "not a poeem index" in fails(4, "search", table, "--like", "1")


def test_a_model_that_did_not_make_the_index(table, run, tmp_path):
    other = tmp_path / "other"
    assert Call("train", table, "--out", other, *SMALL, "--seed", "9").code == 0
    line = fails(4, "search", run / "items.poeem", "--model", other, "--user", "110")
    assert "poeem build" in line


def test_a_damaged_checkpoint(run, tmp_path):
    for path in run.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "checkpoint.safetensors").write_bytes(b"damaged")
    assert "checkpoint.safetensors" in fails(5, "evaluate", tmp_path)
    (tmp_path / "ids.npz").write_bytes(b"damaged")
    (tmp_path / "checkpoint.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes())
    assert "ids.npz" in fails(5, "evaluate", tmp_path)


def test_no_run(tmp_path):
    assert "no run there" in fails(5, "evaluate", tmp_path / "none")
    assert "no run there" in fails(5, "build", tmp_path / "none")
    assert "no run there" in fails(5, "train", "--resume", "--out", tmp_path / "none")


def test_a_folder_that_is_a_file(table):
    assert "cannot be a folder" in fails(6, "train", table, "--out", table, *SMALL)


def test_saving_where_nothing_can_be_written(run, tmp_path):
    assert "cannot write" in fails(6, "build", run, "--out", tmp_path / "no" / "folder" / "x")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "wanted one of --like"),
        (("--like", "A1", "--user", "2"), 2, "wanted one of --like"),
        (("--user", "2"), 2, "need --model"),
        (("--like", "A1000"), 3, "no item has this id or title"),
        (("--like", "thing"), 3, "40 items have this in their title"),
        (("--like", "A1", "--k", "0"), 2, "--k: got 0"),
    ],
)
def test_questions_that_cannot_be_asked(run, arguments, code, message):
    assert message in fails(code, "search", run / "items.poeem", *arguments)


def test_users_and_items_unknown_to_the_model(run):
    call = ("search", run / "items.poeem", "--model", run)
    assert "user: 1 not in the training data: '7'" in fails(3, *call, "--user", "7")
    assert "item: 1 not in the training data: 'B1'" in fails(3, *call, "--history", "A1,B1")


def test_vectors_that_do_not_fit(run, tmp_path):
    call = ("search", run / "items.poeem", "--query-vectors")
    np.save(tmp_path / "wide.npy", np.zeros((2, 17), dtype=np.float32))
    assert "got width 17, wanted 16" in fails(3, *call, tmp_path / "wide.npy")
    np.save(tmp_path / "double.npy", np.zeros((2, 16)))
    assert "float64" in fails(3, *call, tmp_path / "double.npy")
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    assert "not a .npy array" in fails(3, *call, tmp_path / "object.npy")
    assert "not a .npy array" in fails(3, *call, tmp_path / "none.npy")


def test_own_arrays_that_do_not_fit(run, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "codes.npy", rng.integers(16, size=(9, 4)))
    np.save(tmp_path / "ids.npy", np.zeros(9, dtype=np.int64))
    np.save(tmp_path / "books.npy", rng.standard_normal((4, 16, 2), dtype=np.float32))
    call = ("build", "--codes", tmp_path / "codes.npy", "--codebooks", tmp_path / "books.npy")
    out = ("--out", tmp_path / "x.poeem")
    assert "duplicates" in fails(3, *call, "--ids", tmp_path / "ids.npy", *out)
    assert "--out" in fails(2, *call)
    assert "wanted one of them" in fails(2, call[0], run, *call[1:], *out)
    assert "wanted one of them" in fails(2, call[0], run, "--renumber")
    assert "UTF-8" in fails(3, *call, "--titles", tmp_path / "codes.npy", *out)


def test_special_errors_come_before_general_ones():
    assert exit_code(LineageError("")) == 4
    assert exit_code(MissingColumnError("")) == 3
    assert exit_code(NotWarmError("")) == 5
    assert exit_code(PoeemError("")) == 1
    assert all(issubclass(kind, PoeemError) for _, _, kinds in EXITS for kind in kinds)


def finished(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def without(module):
    return f"import sys; sys.modules[{module!r}] = None"


def test_search_and_inspect_without_torch(run):
    index = run / "items.poeem"
    for call in (("search", index, "--like", "A7"), ("inspect", index)):
        code, out, err = finished(subprocess_call(*call, before=without("torch")))
        assert code == 0, err
        assert out
    code, _, err = finished(
        subprocess_call("search", index, "--model", run, "--user", "1", before=without("torch"))
    )
    assert code == 2
    assert err.strip().endswith("pip install -c constraints.txt '.[train]'")


def test_search_does_not_load_torch(run):
    after = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules))"
    call = ("search", run / "items.poeem", "--like", "A7", "--json")
    code, out, err = finished(subprocess_call(*call, before=after))
    assert code == 0, err
    assert out.strip().endswith("False")


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_the_command_line_without_its_packages(module):
    code, _, err = finished(subprocess_call("--help", before=without(module)))
    assert code == 2
    assert err.strip().endswith("pip install -c constraints.txt '.[cli]'")
