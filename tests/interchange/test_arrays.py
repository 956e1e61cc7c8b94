"""Plain arrays out and in: the same index, to the bit; what does not fit is refused."""

import io
import zipfile

import numpy as np
import pytest

import poeem
from poeem.errors import CorruptIndexError, IndexFileError, InputError, NotAnIndexError
from poeem.interchange.npz import export_npz, import_npz
from poeem.interchange.parquet import export_parquet, import_parquet
from tests.index.helpers import Shape, random_index, random_queries

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

SHAPES = {
    "flat": Shape(),
    "lists and all": Shape("l2", num_lists=7, rotation=True, ids="int64", titles=True),
    "cosine, 4 bits": Shape("cosine", num_codewords=16, num_lists=3, ids="uint32"),
    "16 bits": Shape("ip", num_codewords=300, rotation=True, titles=True),
    "residual codes": Shape("l2", num_lists=4, rotation=True, family="residual", titles=True),
    "one item": Shape("l2", num_items=1, num_lists=2, titles=True),
}
KINDS = {"npz": (export_npz, import_npz), "parquet": (export_parquet, import_parquet)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SHAPES)
def test_there_and_back(name, kind, tmp_path):
    write, read = KINDS[kind]
    index = random_index(SHAPES[name])
    write(index, tmp_path / "out")
    again = read(tmp_path / "out")
    assert (again.metric, again.family) == (index.metric, index.family)
    assert again.lineage == index.lineage
    for part in ("ids", "codes", "lists", "codebooks", "centroids", "rotation", "norms"):
        mine, theirs = getattr(index, part), getattr(again, part)
        assert (mine is None) == (theirs is None), part
        assert mine is None or (np.array_equal(mine, theirs) and mine.dtype == theirs.dtype), part
    if index.has_titles:
        assert again.titles(again.ids) == index.titles(index.ids)
    queries = random_queries(5, index.dim)
    found, wanted = again.search(queries, 10), index.search(queries, 10)
    assert np.array_equal(found.ids, wanted.ids)
    assert np.array_equal(found.scores, wanted.scores)


@pytest.mark.parametrize("kind", KINDS)
def test_the_metric_may_be_chosen(kind, tmp_path):
    write, read = KINDS[kind]
    write(random_index(Shape("ip")), tmp_path / "out")
    assert read(tmp_path / "out", metric="l2").metric == "l2"
    with pytest.raises(poeem.ConfigError, match="metric: got 'dot'"):
        read(tmp_path / "out", metric="dot")


def test_arrays_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, (30, 2))
    codebooks = rng.standard_normal((2, 5, 3)).astype(np.float32)
    np.savez_compressed(tmp_path / "own.npz", codes=codes, codebooks=codebooks)
    index = import_npz(tmp_path / "own.npz")
    assert (index.metric, len(index), index.dim) == ("ip", 30, 6)
    assert np.array_equal(index.ids, np.arange(30))
    assert np.array_equal(index.codes, codes)


def save(path, **arrays):
    whole = {"codes": np.zeros((3, 2), np.uint8), "codebooks": np.ones((2, 4, 3), np.float32)}
    np.savez(path, **{k: v for k, v in (whole | arrays).items() if v is not None})
    return path


NPZ = {
    "no codes": ({"codes": None}, CorruptIndexError, "missing: codes; unknown: none"),
    "a name that is not known": ({"centroid": np.zeros(3)}, CorruptIndexError, "unknown: centroid"),
    "objects": (
        {"ids": np.array([1, "a", None], object)},
        CorruptIndexError,
        "ids: .*Python objects",
    ),
    "a code beyond": ({"codes": np.full((3, 2), 4)}, InputError, "codes: got 4 in row 0"),
    "lists without centroids": ({"lists": np.zeros(3, int)}, InputError, "centroids: missing"),
    "ids too few": ({"ids": np.arange(2)}, InputError, "ids: got shape"),
    "a metric of numbers": ({"metric": np.array(3)}, CorruptIndexError, "metric: got int64"),
    "an unknown metric": ({"metric": np.array("dot")}, InputError, "metric: got 'dot'"),
    "lineage that is not JSON": ({"lineage": np.array("{")}, CorruptIndexError, "Expecting"),
    "titles of one half": (
        {"title_bytes": np.zeros(3, np.uint8)},
        CorruptIndexError,
        "wanted both of title_bytes and title_offsets",
    ),
    "titles that fall": (
        {"title_bytes": np.zeros(3, np.uint8), "title_offsets": np.array([0, 3, 1, 3])},
        CorruptIndexError,
        "title_offsets: they fall",
    ),
    "titles that are not UTF-8": (
        {"title_bytes": np.full(3, 255, np.uint8), "title_offsets": np.arange(4)},
        CorruptIndexError,
        "utf-8",
    ),
}


@pytest.mark.parametrize("name", NPZ)
def test_npz_that_does_not_fit(name, tmp_path):
    arrays, error, message = NPZ[name]
    with pytest.raises(error, match=message):
        import_npz(save(tmp_path / "x.npz", **arrays))


def test_a_pickle_in_a_npz_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return exec, ("raise SystemExit('it ran')",)

    path = save(tmp_path / "x.npz", lineage=np.array(Evil(), dtype=object))
    with pytest.raises(CorruptIndexError, match="Python objects"):
        import_npz(path)


def member_that_promises_much():
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**7)}
    )
    return buffer.getvalue() + b"few bytes"


def test_npz_files_that_are_none(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(NotAnIndexError, match="no such file"):
        import_npz(path)
    for content in (b"", b"nothing like it", b"PK\x03\x04 cut"):
        path.write_bytes(content)
        with pytest.raises(NotAnIndexError, match=r"not a \.npz file"):
            import_npz(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(NotAnIndexError, match=r"one array, wanted a \.npz file of several"):
        import_npz(tmp_path / "one.npy")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("codes.npy", member_that_promises_much())
    with pytest.raises(CorruptIndexError, match="codes: "):
        import_npz(path)


def test_every_truncation_of_a_npz_is_refused(tmp_path):
    path = save(tmp_path / "x.npz")
    whole = path.read_bytes()
    for size in range(0, len(whole), 13):
        path.write_bytes(whole[:size])
        with pytest.raises(IndexFileError):
            import_npz(path)


def test_rows_of_tables_may_stand_in_any_order(tmp_path):
    index = random_index(Shape("l2", num_lists=7, rotation=True, ids="int64"))
    export_parquet(index, tmp_path / "out")
    rng = np.random.default_rng(0)
    for path in (tmp_path / "out").iterdir():
        table = parquet.read_table(path)
        if path.name != "items.parquet":  # as another tool may write it: lists of any length
            column = table["vector"].combine_chunks()
            lists = pa.array(column.to_pylist(), type=pa.list_(pa.float32()))
            table = table.set_column(table.column_names.index("vector"), "vector", lists)
        parquet.write_table(table.take(rng.permutation(len(table))), path)
    again = import_parquet(tmp_path / "out")
    for part in ("ids", "codes", "lists", "codebooks", "centroids", "rotation", "norms"):
        assert np.array_equal(getattr(again, part), getattr(index, part)), part


def spoil(folder, name, change):
    path = folder / f"{name}.parquet"
    parquet.write_table(change(parquet.read_table(path)), path)


def with_codewords(change):
    """Return a change of the column of codewords."""

    def changed(table):
        numbers = pa.array(change(table["codeword"].to_numpy().copy()))
        return table.set_column(table.column_names.index("codeword"), "codeword", numbers)

    return changed


def put(value):
    def changed(numbers):
        numbers = numbers.astype(type(value))
        numbers[0] = value
        return numbers

    return changed


PARQUET = {
    "a codeword far away": ("codebooks", with_codewords(put(2**40)), "codeword: wanted integers"),
    "a negative codeword": ("codebooks", with_codewords(put(-5)), "codeword: wanted integers"),
    "a codeword that is none": ("codebooks", with_codewords(put(float("nan"))), "wanted integers"),
    "codes that are records": (
        "items",
        lambda t: t.set_column(t.column_names.index("code"), "code", pa.array([{"a": 1}] * len(t))),
        "wanted lists",
    ),
    "metadata without an end": (
        "items",
        lambda t: t.replace_schema_metadata(dict.fromkeys(t.schema.metadata, b"[" * 100000)),
        "metadata: not JSON",
    ),
    "a codeword less": ("codebooks", lambda t: t.slice(1), "wanted each codeword of each subspace"),
    "a codeword twice": ("codebooks", lambda t: pa.concat_tables([t, t[:1]]), "each codeword"),
    "a list less": ("centroids", lambda t: t.slice(1), "list: wanted each number once"),
    "no code column": ("items", lambda t: t.drop_columns(["code"]), "column code is missing"),
    "codes that are no lists": (
        "items",
        lambda t: t.set_column(2, "code", pa.array(range(len(t)))),
        "column code is int64, wanted lists",
    ),
    "codes of different lengths": (
        "items",
        lambda t: t.set_column(2, "code", pa.array([[1, 2]] + [[1]] * (len(t) - 1))),
        "column code: wanted lists of numbers, all as long",
    ),
    "an id of null": (
        "items",
        lambda t: t.set_column(0, "id", pa.array([None, *range(1, len(t))])),
        "column id has 1 nulls",
    ),
    "ids of text": (
        "items",
        lambda t: t.set_column(0, "id", pa.array(list(map(str, range(len(t)))))),
        "column id is string, wanted numbers",
    ),
    "metadata that is not JSON": (
        "items",
        lambda t: t.replace_schema_metadata({"poeem": "{"}),
        "metadata: not JSON",
    ),
}


@pytest.mark.parametrize("name", PARQUET)
def test_tables_that_do_not_fit(name, tmp_path):
    table, change, message = PARQUET[name]
    export_parquet(random_index(Shape("l2", num_lists=7)), tmp_path / "out")
    spoil(tmp_path / "out", table, change)
    with pytest.raises(CorruptIndexError, match=message):
        import_parquet(tmp_path / "out")


def test_tables_that_are_none(tmp_path):
    export_parquet(random_index(Shape()), tmp_path / "out")
    path = tmp_path / "out" / "codebooks.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(NotAnIndexError, match="not a Parquet table"):
        import_parquet(tmp_path / "out")
    path.unlink()
    with pytest.raises(NotAnIndexError, match=r"codebooks\.parquet: no such file"):
        import_parquet(tmp_path / "out")


def test_a_folder_that_is_there_is_not_written_over(tmp_path):
    (tmp_path / "out").mkdir()
    export_parquet(random_index(Shape()), tmp_path / "out")  # an empty one is taken
    before = sorted(p.name for p in tmp_path.rglob("*"))
    with pytest.raises(InputError, match="it is there already"):
        export_parquet(random_index(Shape()), tmp_path / "out")
    with pytest.raises(poeem.SaveError, match="not written"):
        export_parquet(random_index(Shape()), tmp_path / "nowhere" / "out")
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title_bytes": lambda a: a[:50]}, "title_offsets: wanted 0 to the 50 bytes"),
        ({"title_offsets": lambda a: a + 1}, "title_offsets: wanted 0 to"),
        ({"title_offsets": lambda a: a[:0]}, "title_offsets: wanted 0 to"),
        ({"codes": lambda _: np.array(3), "ids": None}, "codes: got shape"),
        ({"lineage": lambda _: np.array("[" * 100_000)}, "recursion"),
    ],
)
def test_npz_members_that_do_not_fit(tmp_path, change, message):
    export_npz(random_index(Shape("ip", titles=True, ids="int64")), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        arrays = dict(file)
    for name, how in change.items():
        if how is None:
            arrays.pop(name, None)
        else:
            arrays[name] = how(arrays.get(name))
    np.savez(tmp_path / "y.npz", **arrays)
    with pytest.raises(CorruptIndexError, match=message):
        import_npz(tmp_path / "y.npz")
