"""Values from the command line: a study at each of them, and what is no value of a field is told."""

import shlex

import pytest

from certvae.engine.command import parse
from certvae.engine.main import main
from certvae.engine.study import configs_of
from certvae.engine.values import at_values, configs_at
from certvae.errors import ConfigFault, ExitCode
from certvae.spec.fields import fields, replaced
from certvae.spec.presets import rescue
from sweeps import collapse_and_rescue, tiny_fixed_q
from tests.small_data import jpeg, write_folder

BASE = rescue("digits")


def made(*given: str):
    return configs_at([one.split() for one in given], (BASE,))


@pytest.mark.parametrize(
    ("given", "path", "wanted"),
    [
        ("lambda_ts 1 5 25", "objective.lambda_ts", [1.0, 5.0, 25.0]),
        ("training.epochs 2 3", "training.epochs", [2, 3]),
        ("model.decoder-sees-teacher true false", "model.decoder_sees_teacher", [True, False]),
        ("training.precision fp32 bf16", "training.precision", ["fp32", "bf16"]),
    ],
)
def test_a_config_per_value_and_all_else_of_the_base(given, path, wanted):
    found = [fields(config) for config in made(given)]
    assert [one[path] for one in found] == wanted
    assert {type(one[path]) for one in found} == {type(fields(BASE)[path])}
    assert all({**one, path: None} == {**fields(BASE), path: None} for one in found)


def test_a_value_spelled_otherwise_is_the_same_config():
    assert made("lambda_ts 5") == made("lambda_ts 5.0") == (replaced(BASE, "lambda_ts", 5.0),)


def test_several_fields_are_combined_and_no_config_comes_twice():
    assert len(made("lambda_ts 1 5", "objective.alpha_kl 0.1 0.2 0.3")) == 6
    assert len(made("lambda_ts 1 1.0 5")) == 2


def test_configs_of_a_study_are_each_at_the_values():
    study = at_values(collapse_and_rescue.STUDY, [("training.epochs", "2", "3")])
    assert len(configs_of(study, collapse_and_rescue.preset("digits"))) == 2 * len(collapse_and_rescue.WEIGHTS)
    assert at_values(study, ()) is study


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("lamda_ts 1",), "objective.lambda_ts"),
        (("lambda_ts",), "no value after the field"),
        (("lambda_ts one",), "wanted a number, got 'one'"),
        (("lambda_ts -1",), "lambda_ts must be"),
        (("training.epochs 1.5",), "wanted a whole number"),
        (("model.decoder_sees_teacher yes",), "wanted true or false"),
        (("model.encoder.hidden 3",), "which is no single value"),
        (("data.limit 300",), "once with each, in place of this: --data.limit 300"),
        (("data.certify_limit 9 8",), "in place of this: --data.certify-limit 9 and --data.certify-limit 8"),
        (("lambda_ts 1", "objective.lambda_ts 2"), "named twice"),
    ],
)
def test_what_is_no_value_is_told_with_what_to_do(given, said):
    with pytest.raises(ConfigFault) as told:
        made(*given)
    assert said in str(told.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--values lambda_ts 1 5 --search 4", "a search draws its values"),
        ("--range lambda_ts 1 5", "none was asked for"),
        ("--only full --search 4", "the modes that its goal reads"),
        *((f"{option} --plan", "none was asked for") for option in ("--ablate", "--race 0.9", "--every-mode")),
    ],
)
def test_the_other_kind_of_run_does_not_pass_over_it_in_silence(words, said, tmp_path, capsys):
    given = ["--data", "digits", "--store", str(tmp_path / "store"), "--plan", *shlex.split(words)]
    assert main(tiny_fixed_q.STUDY, given) == ExitCode.WRONG_INPUT
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    ["--range lambda_ts 1 5 --search 4", "--values lambda_ts 1 5", "--values model.decoder_sees_teacher true false"],
)
def test_the_remedies_are_taken(words, tmp_path):
    given = ["--data", "digits", "--store", str(tmp_path / "store"), "--plan", *shlex.split(words)]
    assert main(tiny_fixed_q.STUDY, given) == ExitCode.DONE


def test_values_of_the_data_are_refused_before_a_run_and_each_is_a_run_of_its_own(tmp_path, capsys):
    """Of images of one's own a preset must know the size before it makes a cell: a value comes too late for it."""
    folder, store = write_folder(tmp_path / "photos", {f"{n}.jpg": jpeg(n, side=16) for n in range(40)}), tmp_path / "s"
    given = ["--data", f"folder:{folder}", "--store", str(store), "--plan"]
    assert main(tiny_fixed_q.STUDY, [*given, "--values", "data.size", "8", "12"]) == ExitCode.WRONG_INPUT
    runs = capsys.readouterr().err.strip().rpartition("in place of this: ")[2].split(" and ")
    assert not store.exists()
    for size, words in zip((8, 12), runs, strict=True):
        assert main(tiny_fixed_q.STUDY, [*given, *words.split()]) == ExitCode.DONE
        assert f"rows of 3 x {size} x {size}" in capsys.readouterr().out


def test_a_plan_counts_every_value_and_seed(tmp_path, capsys):
    given = "--data digits --values lambda_ts 1 5 25 --values objective.alpha_kl 0.1 0.2 --seeds 0 1 --plan --store"
    assert main(tiny_fixed_q.STUDY, [*given.split(), str(tmp_path / "store")]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert "12 cells, 0 done before" in said
    assert "looks 1 to 6" in said


def test_widths_of_our_encoder_beside_a_network_of_ones_own_are_refused(tmp_path, monkeypatch):
    (tmp_path / "ownnet.py").write_text("def build(shape, classes):\n    raise NotImplementedError\n")
    monkeypatch.chdir(tmp_path)
    network = ["--data", "digits", "--model.network", "ownnet:build"]
    assert parse(tiny_fixed_q.STUDY, network)[1].model.network
    with pytest.raises(ConfigFault, match="left away beside a network of your own"):
        parse(tiny_fixed_q.STUDY, [*network, "--model.encoder.hidden", "16"])
    given = parse(tiny_fixed_q.STUDY, [*network, "width=16"])[1].model.network  # what the fault says to do instead
    assert given is not None
    assert given.options == {"width": 16}
