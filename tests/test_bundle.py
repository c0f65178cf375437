"""Making bundles: which network, what is refused, and numbers that are those of the row."""

import dataclasses
import re
import shlex
import shutil
import time

import numpy as np
import pytest
from torch import nn

import certvae
from certvae.__main__ import main
from certvae.answers import channel, head, mean
from certvae.bundle import ROUNDING, Written, best, write
from certvae.data.loading import describe, load
from certvae.data.preconditions import preconditions
from certvae.engine.gate import Gate
from certvae.errors import BundleFault, ExitCode
from certvae.looks import Look, alone, together
from certvae.looks.register import register
from certvae.models.nets import build
from certvae.protocols import chain
from certvae.spec import presets
from certvae.spec.baselines import Baselines, VqVae
from certvae.spec.parts import Data, Module
from certvae.spec.teachers import Given
from certvae.store import environments
from certvae.store.store import Store
from certvae.teachers import save_rows
from certvae.training import environment
from certvae.verifier import folder as files
from certvae.verifier import verify
from certvae.verifier.bundle import opened, row_digests
from tests import small_rows
from tests.protocols.test_simplex_chain import SMALL, cell
from tests.small_bundles import DATA, Parts, bundled, judged
from tests.small_cells import MODEL, TEACHER, WARM_UP, small_cell

SPEC = dataclasses.replace(small_cell(), data=DATA)
MODES = ("full", "no_align", "untrained", "permuted")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    spec = dataclasses.replace(SPEC, protocol=dataclasses.replace(SPEC.protocol, controls=("untrained", "permuted")))
    return judged(tmp_path_factory.mktemp("judged") / "store", spec, MODES)


def row_of(store, mode: str) -> chain.Row:
    return next(row for row in store[1] if row["mode"] == mode)


def same_as_row(row, found) -> None:
    """To the rounding of the float32 means that a row was computed from."""
    numbers = [name for name, value in found.claim.items() if isinstance(value, float) and row.get(name) is not None]
    bounds = {name for name in numbers if name.endswith("_bound")}
    assert {"population_bound", "sampled_population_bound"} <= bounds
    assert all(found.claim[name] < row[name] for name in bounds)  # a row pays for one claim
    assert {"margin", "info", "loss", "kl_rate"} <= set(numbers)
    for name in set(numbers) - bounds - {"delta"}:
        assert found.claim[name] == pytest.approx(row[name], rel=ROUNDING, abs=ROUNDING), name
    assert found.words == {"head": head(found.claim), "mean": mean(found.claim), "channel": channel(found.claim)}


@pytest.mark.parametrize("mode", ["full", "no_align", "untrained"])
def test_the_claim_of_a_bundle_is_that_of_the_row(store, mode, tmp_path):
    row = row_of(store, mode)
    write(store[0], row, tmp_path / "out")
    found = verify(tmp_path / "out")
    same_as_row(row, found.found)
    about = found.bundle.record["about"]
    assert about["spec"] == row["spec"]
    assert about["versions"]["stage_version_judge"] == row["stage_version_judge"]


def test_a_bundle_pays_for_every_claim_of_its_table_and_states_no_larger_bound(store, tmp_path):
    kept, rows = store
    table = {row["mode"]: row for row in together(kept.disk, rows)}
    for mode in ("full", "no_align"):
        row = row_of(store, mode)
        found = write(kept, row, tmp_path / mode)
        claims = opened(tmp_path / mode).settings["claims"]
        assert claims == table[mode]["claims"] == 14  # of four networks, to one of which no head was fitted
        assert found.claim["delta"] == 0.05 / claims
        for name, bound in alone(kept.disk, row, 0.05 / claims).items():
            if "affine" not in name:
                assert found.claim[name] == pytest.approx(bound, rel=ROUNDING, abs=ROUNDING)
                assert found.claim[name] <= table[mode][name] + ROUNDING
    (only,) = together(kept.disk, [row_of(store, "full")])
    assert only["claims"] == 4


def test_rows_that_do_not_count_are_left_out_by_a_table_a_bundle_and_load_alike(tmp_path):
    """One of 120 certify rows is a train row, and two repeat another: 117 count, for each of them."""
    digits = load(DATA, cache=tmp_path / "digits", progress=False).images
    test = digits[180:].copy()
    test[0], test[1:3] = digits[0], test[3]
    np.savez(tmp_path / "rows.npz", x_train=digits[:150], x_val=digits[150:180], x_test=test)
    place = f"npz:{tmp_path / 'rows.npz'}"
    spec = dataclasses.replace(SPEC, data=Data(name=describe(place).name))
    kept = Store(tmp_path / "store", fingerprint=environment.fingerprint("cpu"))
    data = load(spec.data, place, cache=kept.path / "data", progress=False)
    Gate(kept, data.name, data.digest, preconditions(data).facts).open([spec])
    (row,) = chain.judge(chain.train(spec, data, kept, only=("full",)), data, kept, "certify")
    (shown,) = together(kept.disk, [row])
    write(kept, row, tmp_path / "out")
    found, loaded = verify(tmp_path / "out"), certvae.load(kept.path, row["study"], "full", 0).certify()
    assert found.found.rows.counted.sum() == len(test) - 3
    assert "(1 in train): the bound leaves them out" in str(found)
    assert "2 certify rows repeat another one" in str(found)
    assert shown["withheld"] is None
    assert None not in (found.found.certificate.certified_population, loaded.certified_population)
    for bound, share in ((found.found.claim["population_bound"], 4), (loaded.population_bound, 1)):
        assert bound == pytest.approx(alone(kept.disk, row, 0.05 / share)["population_bound"], rel=ROUNDING)
    for margin in (found.found.certificate.margin, loaded.margin):
        assert margin == pytest.approx(row["margin"], rel=ROUNDING)


def test_a_bundle_pays_for_the_looks_of_now(store, tmp_path):
    row = row_of(store, "full")
    shutil.copytree(store[0].path, tmp_path / "store")
    copy = Store(tmp_path / "store")
    for study in ("second", "third"):
        register(copy.disk, Look(study, "0" * 64, row["data"]))
    found = write(copy, row, tmp_path / "out")
    assert (row["looks"], found.claim["looks"]) == (1, 3)
    assert found.claim["population_bound"] < row["population_bound"]
    assert verify(tmp_path / "out").found.claim == found.claim


def test_the_machine_of_the_run_is_in_the_bundle(store, tmp_path):
    write(store[0], row_of(store, "full"), tmp_path / "out")
    machines = opened(tmp_path / "out").environment["machines"]
    assert machines == environments.of(store[0].disk, row_of(store, "full")["environment"])
    assert {"CPU", "Python", "package pip", "package torch", "package numpy"} <= machines[0].keys()


@pytest.mark.parametrize("teacher", [SMALL, dataclasses.replace(SMALL, shift=1), None])
def test_a_simplex_witness_under_labels_or_a_mixture_on_pixels(teacher, tmp_path):
    spec = dataclasses.replace(cell(**({"teacher": teacher} if teacher else {})), data=DATA)
    bundle, row = bundled(tmp_path, spec, "rst")
    same_as_row(row, verify(bundle).found)


def test_rows_of_a_control_whose_teacher_is_no_function_of_the_image(store, tmp_path):
    with pytest.raises(BundleFault, match="no fixed function of the image"):
        write(store[0], row_of(store, "permuted"), tmp_path / "out")


def test_a_teacher_whose_rows_are_kept_is_refused(tmp_path):
    images = load(DATA, cache=tmp_path / "data", progress=False)
    save_rows(tmp_path / "rows.npz", images, lambda x: np.eye(4)[(x.mean(axis=(1, 2, 3)) * 16).astype(int) % 4])
    with pytest.raises(BundleFault, match="a teacher of source given has no bundle"):
        bundled(tmp_path, dataclasses.replace(small_cell(teacher=Given(str(tmp_path / "rows.npz"))), data=DATA))


def test_a_code_of_a_codebook_has_a_bundle(tmp_path):
    protocol = Baselines(warm_up=WARM_UP, teacher=TEACHER, baselines=(VqVae(codes=8),))
    out, row = bundled(tmp_path, dataclasses.replace(SPEC, protocol=protocol), "vq_vae")
    found = verify(out).found
    assert found.claim["margin"] == pytest.approx(row["margin"], rel=ROUNDING, abs=ROUNDING)
    assert (found.claim["kl_rate"], found.claim["posterior_std"]) == (row["kl_rate"], row["posterior_std"]) == (None, 0)
    assert found.claim["affine_margin"] == pytest.approx(row["affine_margin"], rel=ROUNDING, abs=ROUNDING)
    assert found.words == {"head": head(row), "mean": mean(row), "channel": channel(row)}


def test_a_posterior_without_variances_is_one_of_codes_alone(store, tmp_path):
    """Left out, the noise that drowns a channel would be gone."""
    write(store[0], row_of(store, "full"), tmp_path / "out")
    parts = Parts.of(tmp_path / "out")
    del parts.network["programs"]["logvar"]
    with pytest.raises(BundleFault, match="no program logvar"):
        parts.claim()


def test_a_network_of_ones_own_is_certified_by_its_arrays(tmp_path, capsys):
    model = dataclasses.replace(MODEL, network=Module("tests.models.planted:Planted"))
    store, (row,) = judged(tmp_path / "store", dataclasses.replace(SPEC, model=model))
    with pytest.raises(BundleFault, match="holds no code") as refused:
        write(store, row, tmp_path / "out")
    assert "certvae.load" in refused.value.remedy
    found = certvae.load(store.path, row["study"], "full", 0)
    np.save(tmp_path / "teacher.npy", found.teacher("certify"))
    np.save(tmp_path / "logits.npy", found.logits(found.encode(found.images("certify"))[0]))
    main(["certify", str(tmp_path / "teacher.npy"), str(tmp_path / "logits.npy")])
    assert f"margin {row['margin']:+.4f}" in capsys.readouterr().out


def test_a_layer_that_is_not_in_the_set():
    vae = build(MODEL, (1, 8, 8), 4, seed=0)
    vae.encoder.body = nn.Sequential(vae.encoder.body, nn.BatchNorm1d(32))
    with pytest.raises(BundleFault, match="BatchNorm1d has no bundle"):
        Written().encoder(vae.encoder)


def test_the_network_that_a_table_is_shown_by_is_the_one_in_the_table(tmp_path):
    """Another machine may have made it too: the name of a file decided which of the two was bundled."""
    store = Store(tmp_path / "store")
    row = small_rows.row(store, small_rows.cell(), "full", "certify")
    there = [row, *(row | {"environment": one * 64, "key_judged": one * 64} for one in "02468ace")]
    for one in there:
        store.put_row(one)
    assert [best(store, [one | {"population_bound": 1.0}]) for one in there] == [[one] for one in there]


def test_a_row_that_says_something_else(store, tmp_path):
    row = {**row_of(store, "full"), "margin": row_of(store, "full")["margin"] + 0.01}
    with pytest.raises(BundleFault, match="margin comes out as"):
        write(store[0], row, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class TestCommands:
    def test_what_fits_is_listed_and_what_is_listed_can_be_typed(self, store, tmp_path, capsys):
        out, at = str(tmp_path / "out"), ["--store", str(store[0].path)]
        assert main(["bundle", out, *at]) == ExitCode.WRONG_INPUT
        told = capsys.readouterr().err
        assert "4 of 4 networks fit" in told
        line = next(line for line in told.splitlines() if "--mode full" in line)
        assert main(["bundle", out, *at, *shlex.split(line)]) == 0
        printed = capsys.readouterr().out
        command = re.search(r"certvae verify .*", printed)
        assert command
        assert main(shlex.split(command[0])[1:]) == 0
        assert "verified from pixels; by its own account study small, mode full, seed 0" in capsys.readouterr().out
        assert main(["bundle", out, *at, *shlex.split(line)]) == ExitCode.WRONG_INPUT
        assert "this one is there" in capsys.readouterr().err

    def test_nothing_of_that_name(self, store, tmp_path, capsys):
        assert main(["bundle", str(tmp_path / "out"), "--store", str(store[0].path), "--mode", "rescue"]) == 2
        assert "0 of 4" in capsys.readouterr().err

    def test_a_bundle_of_an_older_format_is_made_again(self, store, tmp_path, capsys, monkeypatch):
        at = ["--store", str(store[0].path), "--mode", "full"]
        with monkeypatch.context() as earlier:
            earlier.setattr(files, "FORMAT", 1)
            assert main(["bundle", str(tmp_path / "old"), *at]) == 0
        assert main(["verify", str(tmp_path / "old")]) == ExitCode.WRONG_INPUT
        assert "has format 1, this program reads format 2" in (told := capsys.readouterr().err)
        assert "make it again: `certvae bundle`" in told
        assert main(["bundle", str(tmp_path / "new"), *at]) == 0
        assert main(["verify", str(tmp_path / "new")]) == 0

    def test_digests_alone(self, store, tmp_path, capsys):
        out, images = str(tmp_path / "out"), str(tmp_path / "images.npy")
        assert main(["bundle", out, "--store", str(store[0].path), "--mode", "full", "--digest-only"]) == 0
        assert main(["verify", out]) == ExitCode.WRONG_INPUT
        assert "--images FILE.npy" in capsys.readouterr().err
        dataset = load(DATA, cache=store[0].path / "data", progress=False)
        np.save(images, dataset.images[dataset.rows("certify")])
        assert main(["verify", out, "--load"]) == 0
        assert "verified from pixels" in capsys.readouterr().out
        assert main(["verify", out, "--images", images, "--rigorous"]) == 0
        assert "proved in ball arithmetic" in capsys.readouterr().out
        np.save(images, dataset.images[:5])
        assert main(["verify", out, "--images", images]) == ExitCode.WRONG_INPUT
        assert "the images are not those" in capsys.readouterr().err
        np.save(images, np.zeros(3))
        assert main(["verify", out, "--images", images]) == ExitCode.WRONG_INPUT

    def test_a_store_without_certified_rows(self, tmp_path, capsys):
        path = Store(tmp_path / "store").path
        assert main(["bundle", str(tmp_path / "out"), "--store", str(path)]) == ExitCode.WRONG_INPUT
        assert "run a study to its end first" in capsys.readouterr().err


@pytest.mark.slow
def test_ten_thousand_images_of_mnist_size_take_less_than_half_a_minute(tmp_path):
    """Processor time, so that other work does not count; untrained networks take as long as trained ones."""
    model, shape, seed = presets.rescue("mnist").model, (1, 28, 28), np.random.default_rng(0)
    images, written = seed.integers(0, 256, (10_000, *shape)).astype(np.uint8), Written()
    vae = build(model, shape, 10, seed=0)
    programs = {**written.encoder(vae.encoder), "head": written.program("z", vae.head, "head")}
    programs["warm"] = {"reads": "x", "layers": [*programs["body"]["layers"], *programs["mu"]["layers"]]}
    latent = model.encoder.latent
    mixture = {"weights": np.full(10, 0.1), "means": seed.normal(size=(10, latent)), "precision": np.ones((10, latent))}
    told = {"delta": 0.05, "looks": 1, "claims": 4, "eps": 0.02, "draw_seed": 0, "scale": 1 / 255}
    digests = {f"digests_{split}": row_digests(images[:0]) for split in ("train", "guard")}
    parts = Parts(
        network={"programs": programs, "teacher": {"kind": "features", "temperature": 1.0, "smoothing": 0.02}},
        weights=written.weights | {f"teacher.{name}": array for name, array in mixture.items()},
        rows={
            **digests,
            "images": images,
            "digests_certify": row_digests(images),
            "mean_train_row": np.full(10, 0.1),
        },
        record={"settings": {**told, "shared_rows": 0}, "about": {}},
        environment={},
    )
    parts.recorded()
    bundle = parts.write(tmp_path / "bundle")
    began = time.process_time()
    verify(bundle)
    assert time.process_time() - began < 30


def test_a_folder_that_is_no_bundle_is_wrong_input_and_not_refused(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == ExitCode.WRONG_INPUT
    assert "name a folder that `certvae bundle` wrote" in capsys.readouterr().err
