"""Whatever a user types, sets or writes, the end is a documented exit code, and no traceback of ours is shown."""

import contextlib
import dataclasses
import io
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certvae.__main__ import COMMANDS
from certvae.__main__ import main as certvae
from certvae.engine.main import main
from certvae.errors import ExitCode
from sweeps import cifar100_baselines, search_margin_psnr, simplex_search, tiny_fixed_q

HEALTH = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
GATE = settings(max_examples=75, deadline=None, suppress_health_check=HEALTH)  # of each of four kinds of input
MANY = settings(max_examples=2_500, deadline=None, suppress_health_check=HEALTH)
STUDIES = tuple(module.STUDY for module in (search_margin_psnr, tiny_fixed_q, simplex_search, cifar100_baselines))
SERVERS = {"ui", "doctor", "selftest"}  # they listen, or take minutes
FLAGS = """
    data seeds study limit workers per-gpu logical-gpus budget deadline search sampler lag early-stop every-mode
    search-seed search-seeds confirmation-seeds explain training.epochs training.batch-size model.encoder.latent
    model.encoder.hidden objective.alpha-kl objective.lambda-ts teacher.classes alpha-kl goal.psnr-drop goal.psnr-floor
    goal.pareto goal.mode data.size data.guard-fraction data.name modes teacher-seed trust-store help plan no-plan
    address race ablate
"""
VARIABLES = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "CERTVAE_DATA", "TMPDIR", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
"""What a profile may hold."""

text = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)
usual = st.sampled_from(["digits", "mnist", "None", "True", "", "-", "--", "0", "1", "2", "inf", "1e999", "²h", "٣"])
words = st.one_of(text, usual, st.integers(-(10**13), 10**13).map(str), st.floats().map(str))
flags = st.sampled_from(["-h", *(f"--{name}" for name in FLAGS.split())])
options = st.lists(st.tuples(flags, st.lists(words, max_size=2)).map(lambda pair: [pair[0], *pair[1]]), max_size=4)
lines = st.one_of(options.map(lambda parts: list(itertools.chain(*parts))), st.lists(words, max_size=4))
known = st.tuples(st.sampled_from(sorted({*COMMANDS} - SERVERS)), st.lists(words, max_size=3))
commands = st.one_of(st.lists(words, max_size=3), known.map(lambda pair: [pair[0], *pair[1]]))
values = st.one_of(st.floats(-10, 10), st.integers(-3, 3), st.none(), st.text(max_size=2), st.just(float("nan")))
choices = st.lists(st.one_of(values, st.tuples(values), st.binary(max_size=1)), max_size=3)


@pytest.fixture(scope="module")
def folder():
    with TemporaryDirectory() as name:
        yield Path(name)


def ends(call: Callable[..., int], *arguments: object) -> None:
    """Runs a command, and looks at its end and at all that it says."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = call(*arguments)
        except SystemExit as ended:  # of the parser
            code = int(ended.code or 0)
    said = out.getvalue() + err.getvalue()
    assert code in set(ExitCode) - {ExitCode.BUG}, said
    assert "Traceback" not in said
    assert code == ExitCode.DONE or said.strip()


def typed(folder: Path, study, line, question) -> None:
    ends(main, study, ["--data", "digits", *line, "--store", str(folder / "store"), question])


def called(folder: Path, line) -> None:
    with contextlib.chdir(folder):
        ends(certvae, line)


def surrounded(folder: Path, variables) -> None:
    earlier = dict(os.environ)
    os.environ |= variables
    try:
        typed(folder, tiny_fixed_q.STUDY, [], "--plan")
    finally:
        os.environ.clear()
        os.environ |= earlier


def low_to_high(trial, found):
    return trial.suggest_float("x", found["low"], found["high"], log=found["log"], step=found["step"])


def whole(trial, found):
    return trial.suggest_int("n", found["low"], found["high"], log=found["log"])


def chosen(trial, found):
    return trial.suggest_categorical("c", found["choices"])


def of_two_kinds(trial, _):
    return [trial.suggest_float("x", 0, 1), trial.suggest_int("x", 0, 1)]


def misspelt(trial, found):
    return trial.sugest_float(found)


spaces = st.fixed_dictionaries(
    {
        "draw": st.sampled_from([low_to_high, whole, chosen, of_two_kinds, misspelt]),
        "result": st.sampled_from(["base", "value", "nothing", "another study", "an error"]),
        "low": values,
        "high": values,
        "log": st.booleans(),
        "step": values,
        "choices": choices,
    }
)


def drawn(folder: Path, found, sampler) -> None:
    def space(trial, base):
        value = found["draw"](trial, found)
        match found["result"]:
            case "base":
                return base
            case "value":
                goal = dataclasses.replace(base.protocol.objective, lambda_ts=value)
                return dataclasses.replace(base, protocol=dataclasses.replace(base.protocol, objective=goal))
            case "another study":
                return dataclasses.replace(base, study="another")
            case "an error":
                raise SystemError(value)

    study = dataclasses.replace(search_margin_psnr.STUDY, space=space)
    typed(folder, study, ["--search", "2", "--sampler", sampler], "--plan")


def kinds_of_input(how: settings) -> type:
    class Kinds:
        @given(st.sampled_from(STUDIES), lines, st.sampled_from(["--status", "--plan"]))
        @how
        def test_flags(self, folder, study, line, question):
            typed(folder, study, line, question)

        @given(commands)
        @how
        def test_commands(self, folder, line):
            called(folder, line)

        @given(st.dictionaries(st.sampled_from(VARIABLES), text))
        @how
        def test_variables(self, folder, variables):
            surrounded(folder, variables)

        @given(spaces, st.sampled_from(["tpe", "grid", "random", "nsga2"]))
        @how
        def test_spaces(self, folder, found, sampler):
            drawn(folder, found, sampler)

    return Kinds


class TestInTheGate(kinds_of_input(GATE)):
    """Three hundred inputs."""


@pytest.mark.slow
class TestMany(kinds_of_input(MANY)):
    """Ten thousand."""
