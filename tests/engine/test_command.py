"""The command line: presets by data set, every field of the cell, and refusals before anything starts."""

import pytest

from certvae.engine.command import command, parse, seconds
from certvae.errors import ConfigFault
from certvae.spec.parts import Mlp
from sweeps import search_margin_psnr, tiny_fixed_q

STUDY = tiny_fixed_q.STUDY


def test_the_paper_is_the_default():
    run, base, goal = parse(STUDY, [])
    assert (run.data, run.seeds, run.study) == ("tiny-imagenet-200", (0, 1, 2), "tiny_fixed_q")
    assert base.protocol.teacher.classes == 200
    assert goal == STUDY.goal


@pytest.mark.parametrize("flags", [["--data", "digits"], ["--data=digits"]])
def test_the_data_set_chooses_the_preset(flags):
    run, base, _ = parse(STUDY, flags)
    assert isinstance(base.model.encoder, Mlp)
    assert (run.study, base.study) == ("tiny_fixed_q-digits", "tiny_fixed_q-digits")


def test_every_field_of_the_cell_can_be_given():
    given = ["--data", "digits", "--objective.lambda-ts", "2", "--training.epochs", "3", "--seeds", "7", "8"]
    run, base, _ = parse(STUDY, [*given, "--warm-up.training.epochs", "4", "--limit", "500"])
    assert base.protocol.objective.lambda_ts == 2.0
    assert (base.training.epochs, base.protocol.warm_up.training.epochs) == (3, 4)
    assert (run.seeds, base.data.limit) == ((7, 8), 500)


def test_a_study_of_another_name_is_another_study():
    run, base, _ = parse(STUDY, ["--data", "digits", "--study", "mine"])
    assert (run.study, base.study) == ("mine", "mine")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--objective.lambda-ts", "0"], "no_align"),
        (["--seeds", "0", "0"], "distinct"),
        (["--seeds", "-1"], "whole numbers"),
        (["--workers", "0"], "workers must be >= 1"),
        (["--lag", "0"], "lag must be >= 1"),
        (["--goal.psnr-drop", "-1"], "psnr_drop must be >= 0"),
        (["--study", "Bad Name"], "a name of a-z"),
        (["--data", "mnits"], "did you mean 'mnist'"),
        (["--data.name", "mnist"], "name must be digits, as --data says"),
        (["--data=mnist", "--data", "cifar10"], "name must be cifar10, as --data says"),
    ],
)
def test_a_value_outside_its_bounds_is_refused(flags, said):
    with pytest.raises(ConfigFault, match=said):
        parse(STUDY, ["--data", "digits", *flags])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--objective.lambda-tss", "1"], "objective.lambda-ts"),
        (["--training.epochs", "many"], "many"),
        (["--alpha-kl", "1"], "alpha-kl"),
    ],
)
def test_unknown_flags_and_wrong_types_end_with_exit_code_2(flags, said, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(STUDY, flags)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("text", "wanted"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), (None, None)])
def test_durations(text, wanted):
    assert seconds(text, "budget") == wanted


@pytest.mark.parametrize("text", ["6", "h", "-1h", "0s", "6 h", "1d", ""])
def test_durations_that_are_none(text):
    with pytest.raises(ConfigFault, match="a duration such as"):
        seconds(text, "budget")


def test_the_command_that_goes_on_is_quoted():
    assert command(["--store", "a b"]).endswith("--store 'a b'")


def test_help_keeps_every_example_on_a_line_and_names_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(search_margin_psnr.STUDY, ["--help"])
    assert ended.value.code == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert sum(line.startswith("$ python sweeps/search_margin_psnr.py") for line in lines) == 3
    assert any("Exit codes: 0 done" in line for line in lines)
