"""Makes src/poeem/data/bundled/online_retail.parquet from the set's interactions and item texts.

    python benchmarks/make_online_retail.py $POEEM_DATA/online-retail

The folder holds interactions.npz (user, item, timestamp per purchased line) and items.tsv.gz (item,
stock_code, description). All purchases are kept, repeats too, ordered by customer and time: that is
also the order that compresses best.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TARGET = Path(__file__).parents[1] / "src/poeem/data/bundled/online_retail.parquet"
MAX_BYTES = 2_000_000


def make_table(folder: Path) -> pa.Table:
    """Join purchases with the stock code and description of their item."""
    with np.load(folder / "interactions.npz") as file:
        user, item, timestamp = (file[name] for name in ("user", "item", "timestamp"))
    with gzip.open(folder / "items.tsv.gz", "rt", encoding="utf-8", newline="\n") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    if [int(row[0]) for row in rows] != list(range(len(rows))):
        raise SystemExit("items.tsv.gz: items are not numbered 0, 1, 2, ...")
    order = np.lexsort((item, timestamp, user))
    codes = pa.array([row[1] for row in rows])
    titles = pa.array([row[2].strip() for row in rows])
    item_of_row = pa.array(item[order])
    # Encoded anew, in order of appearance: a third smaller than with the items' own numbers.
    return pa.table(
        {
            "user": pa.array(user[order]),
            "item": codes.take(item_of_row).dictionary_encode(),
            "timestamp": pa.array(timestamp[order].astype(np.int64)),
            "title": titles.take(item_of_row).dictionary_encode(),
        }
    )


def main() -> None:
    """Write the file and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    table = make_table(parser.parse_args().folder)
    pq.write_table(
        table,
        TARGET,
        compression="zstd",
        compression_level=19,
        use_dictionary=["item", "timestamp", "title"],
        column_encoding={"user": "DELTA_BINARY_PACKED"},
    )
    size = TARGET.stat().st_size
    if size >= MAX_BYTES:
        raise SystemExit(f"{size:,} bytes, wanted less than {MAX_BYTES:,}")
    print(f"{TARGET.name}: {table.num_rows:,} rows, {size:,} bytes")


if __name__ == "__main__":
    main()
