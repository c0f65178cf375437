"""A chain from data of one's own: vectors without labels, from a description to a row."""

from dataclasses import replace

import numpy as np
import pytest

from certvae.data.loading import describe, load
from certvae.errors import DataFault
from certvae.protocols import chain
from certvae.spec.presets import labels, rescue, witness
from certvae.store.store import Store
from tests.small_cells import OBJECTIVE, TEACHER, TRAINING, WARM_UP


def test_vectors_without_labels_give_rows(tmp_path):
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 4, 300)
    x = rng.normal(0, 0.3, (300, 12)) + 5 * np.eye(12)[kinds]
    np.savez(tmp_path / "cells.npz", vectors=x)
    about = describe(f"npz:{tmp_path / 'cells.npz'}")
    base = rescue(about)
    protocol = replace(base.protocol, warm_up=WARM_UP, teacher=TEACHER, objective=OBJECTIVE)
    cell = replace(base, protocol=protocol, training=TRAINING)
    dataset = load(cell.data, about.place, cache=tmp_path / "cache", progress=False)
    store = Store(tmp_path / "store")
    rows = chain.judge(chain.train(cell, dataset, store), dataset, store, "certify")
    for row in rows:
        assert row["data"] == about.name
        assert "peak" in row["substitute"]
        assert row["probe_accuracy"] is None
        assert 0 < row["psnr_01"] < 100


def test_a_teacher_of_labels_says_that_there_are_none(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8))
    about = describe(f"npz:{tmp_path / 'a.npz'}")
    base = witness(about)
    cell = replace(base, protocol=replace(base.protocol, teacher=labels(base)))
    dataset = load(cell.data, about.place, cache=tmp_path / "cache", progress=False)
    with pytest.raises(DataFault, match=r"E-DATA: npz@.* has no labels"):
        chain.train(cell, dataset, Store(tmp_path / "store"))
