"""A training that is stopped goes on, and ends as if it had never been."""

import shutil
import signal
import time

import pytest
from safetensors.numpy import load_file

from tests.cli.conftest import SMALL, Call, subprocess_call

LONG = (*SMALL, "--epochs", "60", "--warm-start-epoch", "2", "--eval-every", "0")


@pytest.fixture(scope="module")
def unbroken(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert Call("train", table, "--out", folder, *LONG, "--checkpoint-every", "0").code == 0
    return load_file(folder / "checkpoint.safetensors")


@pytest.fixture(scope="module")
def stopped(table, tmp_path_factory):
    """Stop a training with a signal once it has left a checkpoint; folder, code and stderr."""
    made = {}

    def stop(number):
        if number not in made:
            folder = tmp_path_factory.mktemp("stopped") / "run"
            call = ("train", table, "--out", folder, *LONG, "--checkpoint-every", "1")
            process = subprocess_call(*call)
            deadline = time.monotonic() + 60
            while not (folder / "checkpoint.safetensors").exists():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
            made[number] = folder, process.returncode, err
        return made[number]

    return stop


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(stopped):
    folder, code, err = stopped(signal.SIGINT)
    line = err.strip().splitlines()[-1]
    assert code == 130
    assert line.startswith("error: stopped by you in epoch")
    assert str(folder / "checkpoint.safetensors") in line
    assert "--resume" in line
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_resumed_training_ends_as_the_unbroken_one(stopped, unbroken, tmp_path, number):
    folder = shutil.copytree(stopped(number)[0], tmp_path / "run")
    call = Call("train", "--resume", "--out", folder, "--checkpoint-every", "0", "--json")
    assert call.json["steps"] == unbroken_steps(unbroken)
    resumed = load_file(folder / "checkpoint.safetensors")
    assert set(resumed) == set(unbroken)
    for name, tensor in unbroken.items():
        assert resumed[name].tobytes() == tensor.tobytes(), name


def unbroken_steps(tensors):
    # The query tower: item tower and layer rest while codes are frozen.
    return int(tensors["optimizer/model/query_tower.embedding.weight/step"])


def test_resume_with_other_settings_is_refused(stopped, tmp_path):
    folder = shutil.copytree(stopped(signal.SIGKILL)[0], tmp_path / "run")
    call = Call("train", "--resume", "--out", folder, "--num-lists", "3", "--seed", "1")
    assert call.code == 2
    assert "[layer] num_lists = 3 (was 0); [train] seed = 1 (was 0)" in call.err


def test_resume_with_other_data_is_refused(stopped, table, tmp_path):
    folder = shutil.copytree(stopped(signal.SIGKILL)[0], tmp_path / "run")
    lines = table.read_text().splitlines()
    changed = tmp_path / "table.csv"
    changed.write_text("\n".join(lines[:-30]) + "\n")
    config = (folder / "config.toml").read_text().replace(str(table), str(changed))
    (folder / "config.toml").write_text(config)
    call = Call("train", "--resume", "--out", folder)
    assert call.code == 5
    assert "made for other data" in call.err
