"""`--target-recall`: a calibrated index chooses how many lists to visit."""

import numpy as np

from tests.cli.conftest import Call


def lists_of_codes(folder, calibrated):
    rng = np.random.default_rng(0)
    arrays = {
        "codes": rng.integers(0, 16, (2000, 4)),
        "codebooks": rng.standard_normal((4, 16, 2)).astype(np.float32) / 10,
        "lists": rng.integers(0, 30, 2000),
        "centroids": rng.standard_normal((30, 8)).astype(np.float32),
        "queries": rng.standard_normal((50, 8)).astype(np.float32),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    names = [name for name in arrays if name != "queries"]
    files = [word for name in names for word in (f"--{name}", folder / f"{name}.npy")]
    samples = ("--sample-queries", folder / "queries.npy") if calibrated else ()
    call = Call("build", *files, *samples, "--out", folder / "items.poeem", "--json")
    assert call.code == 0, call.err
    return call.json


def test_a_target_stands_for_a_number_of_probes(tmp_path):
    recalls = lists_of_codes(tmp_path, calibrated=True)["calibration"]["recalls"]
    target, probes = str(recalls[2]), 4
    assert recalls[1] < recalls[2] < 1
    asked = ("search", tmp_path / "items.poeem", "--query-vectors", tmp_path / "queries.npy")
    asked += ("--k", "100")
    by_target = Call(*asked, "--target-recall", target, "--json").json
    assert by_target == Call(*asked, "--num-probes", str(probes), "--json").json
    assert by_target != Call(*asked, "--json").json
    both = Call(*asked, "--target-recall", target, "--num-probes", "2")
    assert both.code == 2
    assert "wanted one of them" in both.err


def test_a_target_needs_a_calibrated_index(tmp_path):
    assert "calibration" not in lists_of_codes(tmp_path, calibrated=False)
    asked = ("search", tmp_path / "items.poeem", "--query-vectors", tmp_path / "queries.npy")
    call = Call(*asked, "--target-recall", "0.9")
    assert call.code == 2
    assert "not calibrated" in call.err


def test_an_unknown_kernel_is_an_error(tmp_path, monkeypatch):
    lists_of_codes(tmp_path, calibrated=False)
    monkeypatch.setenv("POEEM_KERNEL", "quantum")
    asked = ("search", tmp_path / "items.poeem", "--query-vectors", tmp_path / "queries.npy")
    for call in (Call(*asked), Call("inspect", "--cpu")):
        assert call.code == 2
        assert "got 'quantum', wanted one of" in call.err
