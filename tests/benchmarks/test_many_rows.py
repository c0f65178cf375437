"""Many rows: written by column, and read again with every byte verified, whole and by six columns.

CERTVAE_ROWS=1000000 python -m pytest -m slow tests/benchmarks/test_many_rows.py -s       twenty thousand when absent

They are the rows of a real cell with other numbers, keys, seeds and weights in each, sealed as `put_row` seals them and
written without waiting for the disk: a million takes 8 GB of it, and seven minutes of processor to be made.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from certvae.canonical import digest
from certvae.protocols import chain
from certvae.store import records, segments
from certvae.store.disk import Disk
from certvae.store.sealed import seal
from certvae.store.store import Store
from tests.small_cells import small_cell, small_digits

COUNT = int(os.environ.get("CERTVAE_ROWS", "20000"))
SEEDS = 10
STUDY = "small"
SIX = ("config", "seed", "mode", "split", "margin", "psnr_01")


def real_rows(folder: Path) -> list[dict[str, Any]]:
    """Of one cell of three epochs, on both splits that rows are made of."""
    spec, dataset, store = small_cell(), small_digits(folder / "data"), Store(folder / "store")
    chained = chain.train(spec, dataset, store)
    return [row for split in ("guard", "certify") for row in chain.judge(chained, dataset, store, split)]


def varied(row: Mapping[str, Any], cell: int) -> dict[str, Any]:
    """The row as another cell would have it: a segment compresses no better than that of a study."""
    config, seed = divmod(cell, SEEDS)
    drawn = np.random.default_rng(cell).normal(1, 0.1, len(row)).tolist()
    numbers = {
        name: value * factor for (name, value), factor in zip(row.items(), drawn, strict=True) if type(value) is float
    }
    keys = {name: digest([name, row["mode"], cell]) for name in row if name.startswith("key_")}
    named = {"cell": digest(["cell", cell]), "config": digest(["config", config]), "seed": seed}
    return {**row, **numbers, **keys, **named, "spec": {**row["spec"], "seed": seed, "study": f"{STUDY}-{config}"}}


def fill(folder: Path, templates: list[dict[str, Any]], count: int) -> None:
    """So many files of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        row = varied(templates[number % len(templates)], number // len(templates))
        (folder / f"{digest(row)}.json").write_bytes(seal(row))


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and seconds of the processor."""
    began = time.process_time()
    found = action()
    return found, time.process_time() - began


@pytest.mark.slow
def test_rows_are_read_by_column_in_a_fraction_of_what_their_files_take(tmp_path, capsys):
    templates = real_rows(tmp_path)
    disk = Disk(Store(tmp_path / "rows").path)
    fill(disk.root / records.ROWS / STUDY, templates, COUNT)
    (held, _), compacted = timed(lambda: segments.compact(disk, STUDY))
    paths = list(records.row_paths(disk, STUDY).values())[:1000]
    _, verified = timed(lambda: [records.get_record(disk, path) for path in paths])
    six, six_seconds = timed(lambda: segments.columns(disk, STUDY, SIX))
    whole, seconds = timed(lambda: segments.columns(disk, STUDY))
    size = sum(path.stat().st_size for path in segments.segments(disk, STUDY))
    memory = psutil.Process().memory_info().rss / 2**30
    with capsys.disabled():
        print(
            f"\n{COUNT} rows of {whole.num_columns} columns: compacted in {compacted:.1f} s to {size / 1e6:.0f} MB; "
            f"all columns {seconds:.2f} s, {whole.nbytes / 1e9:.2f} GB; six {six_seconds:.2f} s; "
            f"as JSON {1e3 * verified / len(paths):.2f} ms a row; memory at the end {memory:.1f} GiB"
        )
    assert held == whole.num_rows == six.num_rows == COUNT
    assert six.column_names == list(SIX)
    assert compacted < 5 * verified / len(paths) * COUNT
    assert seconds < 0.2 * verified / len(paths) * COUNT
    assert six_seconds < 0.05 * verified / len(paths) * COUNT
