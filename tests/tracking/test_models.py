"""Bundles in MLflow: files of the run, and a model that anybody loads by MLflow alone."""

import dataclasses
import re
from functools import partial
from pathlib import Path

import mlflow
import pytest

from certvae import bundle as bundles
from certvae.__main__ import main
from certvae.engine.gate import Gate
from certvae.spec.reading import read
from certvae.tracking import models
from certvae.tracking.client import Outage
from certvae.verifier import folder
from certvae.verifier.bundle import opened
from tests.small_bundles import DATA, judged
from tests.small_cells import small_cell
from tests.small_ledgers import ready_store


@pytest.fixture
def tracking():
    """Whatever a test sets, the next one begins as if nothing had been set."""
    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("tracked") / "store"
    ready_store(path)
    return judged(path, dataclasses.replace(small_cell(), data=DATA))


def test_a_bundle_is_a_file_of_its_run_and_a_model(store, tmp_path, tracking, capsys, recwarn):
    out = tmp_path / "out"
    assert main(["bundle", str(out), "--store", str(store[0].path), "--mlflow"]) == 0
    uri, uri_of_model = re.findall(r"'(.+?)'", capsys.readouterr().out.split("MLflow: ")[1])
    tracking(uri)
    bundle = opened(out)
    images = bundle.rows["images"][:5]
    found, wanted = mlflow.pyfunc.load_model(uri_of_model).predict(images), bundle.read(images)
    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in wanted.items()}
    client = mlflow.MlflowClient()
    model = client.get_logged_model(uri_of_model.removeprefix("models:/"))
    files = {Path(one.path).name for one in client.list_artifacts(model.source_run_id, "bundle")}
    assert files == {path.name for path in out.iterdir()}
    assert model.tags["certvae.bundle"] == bundle.name
    assert models.log(store[0], store[1][0], pytest.fail) == (uri, uri_of_model)
    assert [str(one.message) for one in recwarn if "ype hint" in str(one.message)] == []


def test_a_network_that_mlflow_does_not_show(store, tmp_path):
    with pytest.raises(Outage, match="not shown"):
        models.log(store[0], {**store[1][0], "mode": "nobody"}, pytest.fail)


def test_a_ledger_made_anew_holds_the_bundles_that_it_held(store, tmp_path, tracking, capsys):
    assert main(["bundle", str(tmp_path / "out"), "--store", str(store[0].path), "--mlflow"]) == 0
    (store[0].path / "views" / "mlflow.db").unlink()
    assert main(["ledger", "--store", str(store[0].path)]) == 0
    uri, model = re.findall(r"'(.+?)'", capsys.readouterr().out.splitlines()[-1])
    tracking(uri)
    images = opened(tmp_path / "out").rows["images"][:2]
    assert set(mlflow.pyfunc.load_model(model).predict(images)) == {"mu", "logvar", "logits"}


def test_a_bundle_of_other_bounds_takes_the_place_of_the_first(store, tmp_path):
    """Looks at these rows under another name cost its bounds: the run says something else, and so must its bundle."""
    kept, (row,) = store
    _, first = models.log(kept, row, partial(bundles.write, kept, row))
    Gate(kept, "digits").open([dataclasses.replace(read(row["spec"]), study="another")])
    _, second = models.log(kept, row, partial(bundles.write, kept, row))
    assert second != first
    assert models.log(kept, row, pytest.fail)[1] == second


def test_a_bundle_of_an_older_format_is_made_anew(store, monkeypatch):
    kept, (row,) = store
    made = partial(bundles.write, kept, row)
    with monkeypatch.context() as earlier:
        for module in (folder, models):
            earlier.setattr(module, "FORMAT", 1)
        _, first = models.log(kept, row, made)
    assert models.log(kept, row, made)[1] != first


class TestBest:
    def test_it_is_the_largest_bound_of_a_strict_network_that_is_no_control(self, store):
        kept, (row,) = store
        shown = {**row, "population_bound": 1.0, "teacher_status": "strict-feasible"}
        others = (
            *(
                {"population_bound": 2.0, "mode": "head_only"},
                {"population_bound": 3.0, "teacher_status": "stress-case"},
            ),
            *({"population_bound": 4.0, "split": "guard"}, {"population_bound": 0.5, "mode": "rescue"}),
            {"population_bound": None, "mode": "no_align"},
        )
        assert bundles.best(kept, [{**shown, **other} for other in others] + [shown]) == [row]
        assert bundles.best(kept, [{**shown, "population_bound": -0.1}]) == []

    def test_a_network_that_has_no_bundle_is_told_and_ends_nothing(self, store):
        kept, (row,) = store
        said = []
        Gate(kept, "digits").open([dataclasses.replace(read(row["spec"]), study="third")])  # MLflow has none yet
        assert bundles.show(kept, [{**row, "data_digest": "0" * 64}], said.append) == 0
        assert said[0].startswith("no bundle of full seed 0: the data are ")
