"""A cell out of its plain values is the cell; what is no cell of this version is told."""

import json

import pytest

from certvae.canonical import plain
from certvae.errors import ConfigFault
from certvae.spec import presets
from certvae.spec.control import Guard
from certvae.spec.fields import fields, path_of, replaced
from certvae.spec.reading import read
from sweeps import cifar100_baselines, search_margin_psnr, triad
from tests.small_cells import small_cell

CELLS = (
    *(presets.rescue(name) for name in presets.CLASSES),
    *(presets.witness(name) for name in presets.CLASSES),
    cifar100_baselines.STUDY.preset("cifar100"),
    triad.STUDY.preset("digits"),
    small_cell(controller=Guard(), seed=7),
)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{type(cell.protocol).__name__}-{cell.data.name}")
def test_a_cell_is_read_back_from_the_json_of_a_row(cell):
    again = read(json.loads(json.dumps(plain(cell))))
    assert again == cell
    assert again.cell == cell.cell


@pytest.mark.parametrize(
    "change",
    [lambda body: {**body, "type": "Gone"}, lambda body: {**body, "gone": 1}, lambda body: body["data"], lambda _: {}],
)
def test_what_is_no_cell_of_this_version_is_told(change):
    with pytest.raises(ConfigFault, match="read it with the version that made it"):
        read(change(plain(small_cell())))


def test_every_field_of_a_cell_has_the_path_of_the_command_line():
    known = fields(search_margin_psnr.STUDY.preset("digits"))
    assert known["training.learning_rate"] == 1e-3
    assert known["objective.lambda_ts"] == 5.0
    assert known["warm_up.training.epochs"] == 60
    assert "seed" not in known


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("lambda_ts", "objective.lambda_ts"),
        ("lambda-ts", "objective.lambda_ts"),
        ("protocol.objective.lambda_ts", "objective.lambda_ts"),
        ("training.learning_rate", "training.learning_rate"),
        ("model.encoder.latent", "model.encoder.latent"),
    ],
)
def test_a_field_is_named_whole_or_by_an_end_that_it_alone_has(name, path):
    assert path_of(small_cell(), name) == path


@pytest.mark.parametrize(
    ("name", "said"),
    [("alpha_kl", "objective.alpha_kl"), ("lamda_ts", "objective.lambda_ts"), ("nothing", "name one of")],
)
def test_a_name_of_none_or_several_fields_is_told_with_those_that_are_meant(name, said):
    with pytest.raises(ConfigFault, match=said):
        path_of(small_cell(), name)


@pytest.mark.parametrize("path", ["objective.lambda_ts", "training.learning_rate", "model.likelihood.variance"])
def test_one_field_is_replaced_and_no_other(path):
    base = small_cell()
    changed = replaced(base, path, 0.25)
    assert fields(changed) == {**fields(base), path: 0.25}
    assert replaced(changed, path, fields(base)[path]) == base


def test_the_bounds_of_a_field_hold():
    with pytest.raises(ConfigFault, match="epochs must be >= 1"):
        replaced(small_cell(), "training.epochs", 0)
