"""Ranges from the command line: any numeric field is searched without a file, and what is no range is told."""

import dataclasses
import json

import optuna
import pytest

from certvae.engine.command import parse, space_of
from certvae.engine.propose import propose
from certvae.engine.ranges import Ranges, described, ranges
from certvae.engine.run import rule_of
from certvae.errors import ConfigFault
from certvae.spec.fields import fields
from certvae.spec.presets import rescue
from sweeps import search_margin_psnr, tiny_fixed_q

BASE = rescue("digits")


def space(*given: str) -> Ranges:
    return ranges([one.split() for one in given], BASE)


@pytest.mark.parametrize(
    ("given", "path", "kind", "words"),
    [
        ("lambda_ts 0.1 10 log", "objective.lambda_ts", float, "0.1 to 10, log scale"),
        ("training.learning_rate 1e-4 1e-2 log", "training.learning_rate", float, "0.0001 to 0.01, log scale"),
        ("training.epochs 2 9", "training.epochs", int, "2 to 9, whole"),
        ("training.batch-size 32 128 32", "training.batch_size", int, "32 to 128, whole in steps of 32"),
        ("model.likelihood.variance 0.1 0.5 0.2", "model.likelihood.variance", float, "0.1 to 0.5 in steps of 0.2"),
    ],
)
def test_a_range_draws_its_field_and_no_other(given, path, kind, words):
    made = space(given)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask()
    drawn = fields(made(trial, BASE))
    assert described(made, BASE) == [f"{path} {words}"]
    assert type(drawn[path]) is kind
    assert float(given.split()[1]) <= drawn[path] <= float(given.split()[2])
    assert {name: value for name, value in drawn.items() if name != path} == {
        name: value for name, value in fields(BASE).items() if name != path
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("lamda_ts 0 1",), "objective.lambda_ts"),
        (("data.name a b",), "which is no number"),
        (("fair_heads 0 1",), "which is no number"),
        (("lambda_ts",), "0 words after its field"),
        (("lambda_ts 1",), "write --range FIELD LOW HIGH"),
        (("lambda_ts 1 2 3 4",), "4 words"),
        (("lambda_ts a 2",), "wanted a number, got 'a'"),
        (("training.epochs 1.5 3",), "wanted a whole number, got '1.5'"),
        (("lambda_ts 2 1",), "wanted LOW < HIGH, got 2 1"),
        (("lambda_ts nan 1",), "wanted LOW < HIGH"),
        (("lambda_bal 0 1 log",), "wanted 0 < LOW < HIGH"),
        (("lambda_ts 1 2 5",), "a step between both"),
        (("lambda_ts 0 1",), "no_align"),
        (("data.guard_fraction 0.1 1",), "guard_fraction must be"),
        (("lambda_ts 1 2", "objective.lambda_ts 1 3"), "has two ranges"),
    ],
)
def test_what_is_no_range_of_this_cell_is_refused_before_anything_starts(given, said):
    with pytest.raises(ConfigFault, match=said):
        space(*given)


def test_proposals_of_ranges_are_replayed():
    line = ["--data", "digits", "--search", "1", "--sampler", "tpe"]
    line += ["--range", "lambda_ts", "0.1", "10", "log", "--range", "training.epochs", "2", "9"]
    search = rule_of(search_margin_psnr.STUDY, *parse(search_margin_psnr.STUDY, line))
    first, again = (propose(search, 0, [], []) for _ in range(2))
    assert first[1] == again[1]
    assert set(first[0].params) == {"objective.lambda_ts", "training.epochs"}


def test_ranges_take_the_place_of_the_space_of_a_study():
    line = ["--data", "digits", "--search", "4", "--range", "lambda_ts", "0.1", "10", "log"]
    line += ["--range", "training.learning-rate", "1e-4", "1e-2", "log", "--seeds", "0"]
    run, base, goal = parse(search_margin_psnr.STUDY, line)
    assert run.seeds == (0,)
    wanted = ["objective.lambda_ts 0.1 to 10, log scale", "training.learning_rate 0.0001 to 0.01, log scale"]
    assert described(space_of(search_margin_psnr.STUDY, run, base), base) == wanted
    assert rule_of(search_margin_psnr.STUDY, run, base, goal).space == space_of(search_margin_psnr.STUDY, run, base)


def test_a_study_without_a_space_is_searched_by_ranges_alone():
    study = dataclasses.replace(tiny_fixed_q.STUDY, space=None)
    with pytest.raises(ConfigFault, match=r"--range lambda_ts 0\.1 10 log"):
        rule_of(study, *parse(study, ["--data", "digits", "--search", "4"]))
    given = parse(study, ["--data", "digits", "--search", "4", "--range", "lambda_ts", "0.1", "10", "log"])
    assert described(rule_of(study, *given).space, given[1]) == ["objective.lambda_ts 0.1 to 10, log scale"]


def test_help_says_what_is_drawn_and_maximised(capsys):
    with pytest.raises(SystemExit):
        parse(search_margin_psnr.STUDY, ["--data", "digits", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "search: maximise the mean margin of full, nats" in said
    assert "draws lambda_ts 0.3 to 30, log scale" in said
    assert "--range" in said


class TestBest:
    """The winner of a search, which a file holds."""

    def test_a_file_that_is_none_is_refused(self, tmp_path):
        for text in ("", "{}", "[]", json.dumps({"spec": {}, "data": "digits"})):
            (tmp_path / "best.json").write_text(text)
            with pytest.raises(ConfigFault):
                parse(search_margin_psnr.STUDY, ["--config", str(tmp_path / "best.json")])
        with pytest.raises(ConfigFault, match=r"give views/STUDY/best\.json"):
            parse(search_margin_psnr.STUDY, ["--config", str(tmp_path / "gone.json")])
