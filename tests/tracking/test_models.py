"""Bundles in MLflow: files of the run, and a model that anybody loads by MLflow alone."""

import dataclasses
import re
from pathlib import Path

import mlflow
import pytest

from certvae.__main__ import main
from certvae.tracking import models
from certvae.tracking.client import Outage
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
    assert models.log(store[0], store[1][0], out, bundle.name) == (uri, uri_of_model)
    assert [str(one.message) for one in recwarn if "ype hint" in str(one.message)] == []


def test_a_network_that_mlflow_does_not_show(store, tmp_path):
    with pytest.raises(Outage, match="not shown"):
        models.log(store[0], {**store[1][0], "mode": "nobody"}, tmp_path, "0" * 64)
