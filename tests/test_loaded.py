"""A network out of a store: no preset is retyped, the numbers are those of the row, and what is not there is told."""

import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import certvae
from certvae.errors import ConfigFault, DataFault, StoreFault
from certvae.looks.register import Look, declare, register
from certvae.models import arithmetic
from certvae.protocols import chain
from certvae.spec.baselines import Baselines, BetaVae, VqVae
from certvae.spec.parts import Data
from certvae.store.store import Store
from tests.small_cells import TEACHER, TRAINING, WARM_UP, leaking, small_cell, small_digits


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two seeds of a chain with a mode that is judged in its own way, and a baseline with a network of its own."""
    folder = tmp_path_factory.mktemp("loaded")
    dataset, made = small_digits(folder / "store" / "data"), Store(folder / "store")
    data = Data(name="digits", limit=240, certify_limit=60)
    plain = dataclasses.replace(small_cell(controls=("permuted",), fair_heads=False), data=data)
    baselines = Baselines(
        warm_up=WARM_UP, teacher=TEACHER, baselines=(BetaVae(strength="low", alpha_kl=0.1), VqVae(codes=8))
    )
    others = dataclasses.replace(plain, study="others", protocol=baselines, training=TRAINING)
    for spec, only in ((plain, ("full", "permuted")), (dataclasses.replace(plain, seed=1), ("full",)), (others, ())):
        trained = chain.train(spec, dataset, made, only=only)
        for split in ("guard", "certify") if spec.study == "small" else ("guard",):
            chain.judge(trained, dataset, made, split, looks=2)
    declare(made.disk, Look("small", plain.config, "digits"), 2)
    return made.path


def rows(store, **wanted):
    return [row for row in Store(store).rows() if wanted.items() <= row.items()]


@pytest.mark.parametrize(
    ("study", "mode"),
    [("small", "full"), ("small", "permuted"), ("others", "beta_vae_low"), ("others", "vq_vae")],
)
def test_the_certificate_of_a_row_is_made_again_from_the_weights(store, study, mode):
    model = certvae.load(store, study, mode, 0)
    split = "certify" if study == "small" else "guard"
    (row,) = rows(store, study=study, mode=mode, seed=0, split=split)
    again = model.certify(split)
    assert model.spec.cell == row["cell"]
    assert repr(model).startswith(f"study {study}, mode {mode}, seed 0, cell {row['cell'][:12]}")
    assert (again.margin, again.population_bound, again.looks) == (row["margin"], row["population_bound"], 2)


def test_certify_rows_that_were_not_opened_are_not_looked_at(store):
    model = certvae.load(store, "others", "vq_vae", 0)
    with pytest.raises(StoreFault, match="were not opened for config") as caught:
        model.certify()
    assert "certify('guard')" in caught.value.remedy
    assert model.certify("guard").certified_population is None


def test_a_store_is_read_and_nothing_in_it_is_moved(store, tmp_path):
    """A row that was damaged went to quarantine/, and a store that cannot be written was refused."""
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    damaged = next((copy / "rows" / "others").iterdir())
    damaged.write_text("{}")
    before = sorted(copy.rglob("*"))
    certvae.load(copy, "small", "full", 0).certify()
    assert sorted(copy.rglob("*")) == before


def test_a_certificate_pays_for_the_looks_of_now(store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    model = certvae.load(copy, "small", "full", 0)
    for study in ("second", "third"):
        register(Store(copy).disk, Look(study, "0" * 64, "digits"))
    again = model.certify()
    assert again.looks == 3
    assert again.population_bound < model.row["population_bound"]


def test_leaked_rows_take_the_population_claim_away(store, tmp_path):
    model = certvae.load(store, "small", "full", 0)
    vars(model)["dataset"] = leaking(model.dataset, 3, tmp_path / "data" / "leaking")
    found = model.certify()
    assert found.certified_population is None
    assert found.split == "certify, of which 3 rows lie in train or guard"


def test_what_it_encodes_is_what_was_judged(store):
    model = certvae.load(store, "small", "full", 1)
    x = model.images("certify")
    mu, logvar = model.encode(x)
    assert mu.shape == logvar.shape == (60, 6)
    assert np.array_equal(mu, model.encode(torch.from_numpy(x).requires_grad_())[0])
    pairs = certvae.Pairs.from_logits(model.teacher("certify"), model.logits(mu), split="certify")
    assert certvae.certify(pairs).margin == model.row["margin"]
    assert model.decode(mu).shape == x.shape
    assert model.teacher("train").shape == (216, 4)


def test_a_notebook_that_computes_in_its_own_way_gets_the_same(store):
    """Networks were built in the type and on the device that it had set, so that no row fitted them."""
    plain = certvae.load(store, "small", "full", 0)
    x, wanted = plain.images("certify"), plain.certify("guard")
    with arithmetic.kept(), torch.inference_mode(), torch.device("meta"), torch.autocast("cpu"):
        torch.set_default_dtype(torch.float64)
        model = certvae.load(store, "small", "full", 0)
        assert model.certify("guard") == wanted
        mu, _ = model.encode(x)
        assert np.array_equal(mu, plain.encode(x)[0])
        assert np.array_equal(model.logits(mu), plain.logits(mu))
        assert np.array_equal(model.decode(mu), plain.decode(mu))
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_default_device() == torch.device("meta")
        assert torch.is_inference_mode_enabled()


def test_a_permuted_teacher_is_that_of_the_row(store):
    plain, permuted = (certvae.load(store, "small", mode, 0).teacher("certify") for mode in ("full", "permuted"))
    assert not np.array_equal(plain, permuted)
    assert np.array_equal(np.sort(plain, axis=0), np.sort(permuted, axis=0))


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ({"study": "smal"}, "name what is there: study others, small"),
        ({"mode": "ful"}, "name what is there: mode full, permuted; seed 0, 1"),
        ({"seed": 7}, "seed 0, 1"),
        ({"config": "xyz"}, "config [0-9a-f]{12}"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(store, asked, there):
    wanted = {"study": "small", "mode": "full", "seed": 0, **asked}
    with pytest.raises(ConfigFault, match=there):
        certvae.load(store, **wanted)


def test_a_folder_that_is_no_store_is_not_made_one(tmp_path):
    with pytest.raises(StoreFault, match="the folder that the study was run with"):
        certvae.load(tmp_path / "none", "small", "full", 0)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((2, 8, 8), np.float32), r"images \(n, 1, 8, 8\), got \(2, 8, 8\)"),
        (np.full((2, 1, 8, 8), 3, np.uint8), r"uint8 up to 3"),
        (np.full((2, 1, 8, 8), np.nan), "nan"),
        (np.zeros((0, 1, 8, 8), np.float32), "no row"),
    ],
)
def test_images_that_are_none_of_the_study_are_refused(store, pixels, said):
    with pytest.raises(ConfigFault, match=said):
        certvae.load(store, "small", "full", 0).encode(pixels)


def test_a_store_without_its_data_encodes_and_says_what_it_cannot(store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(store, copy, ignore=shutil.ignore_patterns("data"))
    model = certvae.load(copy, "small", "full", 0)
    x = certvae.load(store, "small", "full", 0).images("guard")
    assert model.encode(x)[0].shape == (24, 6)
    changed = dataclasses.replace(model, row={**model.row, "data_digest": "0" * 64})
    with pytest.raises(DataFault, match="give data_root="):
        changed.images("guard")
    shutil.rmtree(copy / "obj" / model.row["key_trained"])
    with pytest.raises(StoreFault, match="run the study again on this store"):
        certvae.load(copy, "small", "full", 0).encode(x)


def test_the_name_is_there_before_what_it_needs_is_imported():
    code = "import sys, certvae; print('load' in dir(certvae), 'torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "True False\n"
    )
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        certvae.lode  # noqa: B018


def test_a_name_whose_packages_are_absent_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None; import certvae; certvae.load"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    assert "certvae.load needs torch, which is not installed: run `pip install '.[" in told
