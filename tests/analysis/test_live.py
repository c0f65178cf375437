"""The page's script against the Python views: the same words and the same digits, under every view of a page."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis import search
from analysis.live import payload, shown
from analysis.load import load
from analysis.opening import opening
from analysis.page import HERE
from analysis.tables.answers import answer_table, apart_table, ranking_table
from analysis.views import DECLARED, Partition, View, everything, partition
from certvae.quality import Thresholds
from certvae.spec.goal import Goal
from tests.analysis_rows import MARGIN, STRESS, chains, filled, lost, row
from tests.analysis_rows import search as search_rows

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="there is no node to run the script with")
RUN = """
const live = require(process.argv[1]), { cases, columns } = JSON.parse(require("fs").readFileSync(0));
const made = cases.map(({ data, view }) => ({
  headline: live.headline(data, view),
  ...Object.fromEntries(Object.entries(live.LIVE).map(([name, make]) =>
    [name, make(data, view).map((line) => live.texts(line, columns[name]))])),
}));
console.log(JSON.stringify(made));
"""


def node(code: str, given: Any) -> Any:
    command = [str(NODE), "-e", code, str(HERE / "live.js")]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-600:]
    return json.loads(done.stdout)


def views() -> list[View]:
    """Views that a reader may come to, the declared one first."""
    found = [DECLARED]
    found += [replace(DECLARED, tau=tau) for tau in (0.0, 0.37, 1.705, 1.8)]
    for limits in ({"min_mass_share": 1e-4}, {"min_mass_share": 0.9}, {"info_share": 0.95}, {"usage_share": 0.0}):
        found.append(replace(DECLARED, thresholds=replace(Thresholds(), **limits)))
    for goal in (Goal(psnr_drop=0.5), Goal(psnr_floor=18.5), Goal(psnr_drop=None, pareto=True), Goal(score="mean-se")):
        found.append(replace(DECLARED, goal=goal))
    return [*found, replace(DECLARED, goal=Goal(score="worst", psnr_floor=18.9, psnr_drop=0.35), tau=0.2)]


def rows() -> list[dict]:
    """Strict and stress seeds, failures of known and unknown teachers, odd words and numbers, in two configs."""
    strict = chains(range(9), mean_word=None)
    for one in strict:
        one["margin"] += np.sqrt(2) * 1e-3 * one["seed"] + (1 / 32 if one["seed"] == 4 else 0)
        one |= {"affine_population_bound": 0.5 - 0.1 * one["seed"], "posterior_std": 0.1, "affine_margin": 1.0}
    stress = [*chains([20], **STRESS), row(21, teacher_code_energy=3.0, energy_budget=2.0)]
    failures = [lost(22), row(22, "no_align"), lost(23), lost(24, outcome="infeasible_teacher", key_teacher=None)]
    other = chains(range(2), parameters={"objective.alpha_kl": 8.0}, kl_rate=0.01)
    other[0] |= {"population_bound": None}
    return [*strict, *stress, *failures, *other]


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    broken = [lost(1, split="guard", parameters={"objective.lambda_ts": 77.0}), *chains([0], split="guard", **STRESS)]
    return load(filled(folder / "rows", rows())), load(filled(folder / "search", [*search_rows(12), *broken]))


def python(parts: Partition, tried: Partition, view: View) -> dict[str, Any]:
    guard = everything(tried)
    ended = {guard["config"].iloc[-1]: "stopped after 1 of 3 seeds"}
    places = {one: {"x": int(one[:6], 16) / 2**24, "y": int(one[6:12], 16) / 2**24} for one in guard["config"].unique()}
    places = places if view.tau in (0.0, DECLARED.tau) else {}
    scored = search.configs(tried, view.goal, ended=ended, places=places)
    first = opening(parts, view)
    tables = {
        "answers": answer_table(parts, view),
        "apart": apart_table(parts, view),
        "ranking": ranking_table(scored, guard, view),
    }
    texts = {name: table.texts() for name, table in tables.items()}
    data = payload(parts, tried, DECLARED, (), ended, places) | {
        "asked": first.asked,
        "axis": first.strips.axis,
        "words": first.words,
    }
    data["goal"] |= {"score": view.goal.score, "certainty": view.goal.certainty}
    columns = {name: [[column.name, column.form] for column in table.columns] for name, table in tables.items()}
    said = {"headline": [first.verdict, first.sentence], **texts}
    return {"data": data, "view": shown(view), "columns": columns, "said": said}


@pytest.fixture(scope="module")
def found(frames) -> list[dict[str, Any]]:
    return [python(*(partition(frame, view.thresholds) for frame in frames), view) for view in views()]


@needs_node
def test_the_script_says_what_the_views_say_under_every_view(found):
    """12 configs, 3 seeds; ties, failures, stress cases: every cell, word and place in order."""
    cases = [{"data": one["data"], "view": one["view"]} for one in found]
    for mine, theirs in zip(found, node(RUN, {"cases": cases, "columns": found[0]["columns"]}), strict=True):
        for name, said in mine["said"].items():
            assert theirs[name] == [list(line) if isinstance(line, tuple) else line for line in said], mine["view"]


def test_views_differ_enough_to_tell_a_wrong_script(found):
    for name in ("headline", "answers", "apart", "ranking"):
        assert len({json.dumps(one["said"][name]) for one in found}) > 3, name


@needs_node
@settings(max_examples=3, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6) | st.integers(-64, 64).map(lambda k: k / 32), min_size=200, max_size=200))
def test_numbers_are_printed_as_python_prints_them(values):
    """Halves among them, such as 1/32, which a browser rounds up and Python to the even digit."""
    code = """const live = require(process.argv[1]), values = JSON.parse(require("fs").readFileSync(0));
    const printed = (x) => [live.cell(x, "signed"), live.cell(x, "coarse"), live.general(x, 4)];
    console.log(JSON.stringify(values.map(printed)))"""
    for value, (signed, coarse, general) in zip(values, node(code, values), strict=True):
        assert (signed, coarse) == (f"{value:+.4f}".replace("-", "−"), f"{value:.2f}".replace("-", "−"))
        assert general == f"{value:.4g}" or abs(value) < 1e-3


@needs_node
def test_sums_are_those_of_numpy():
    generator = np.random.default_rng(0)
    given = [generator.normal(size=n).tolist() for n in (1, 5, 7, 8, 9, 64, 127, 128, 129, 200, 1000, 3001)]
    code = """const live = require(process.argv[1]), lists = JSON.parse(require("fs").readFileSync(0));
    console.log(JSON.stringify(lists.map(live.sum)))"""
    assert node(code, given) == [float(np.sum(values)) for values in given]


@needs_node
def test_the_probability_of_keeping_a_constraint_is_students():
    given = [(freedom, x) for freedom in (1, 2, 3, 4, 7, 30, 191) for x in (-9.0, -2.5, -0.3, 0.0, 0.7, 4.0)]
    code = """const live = require(process.argv[1]), pairs = JSON.parse(require("fs").readFileSync(0));
    console.log(JSON.stringify(pairs.map(([freedom, x]) => live.student(freedom, x))))"""
    assert node(code, given) == pytest.approx([stats.t.cdf(x, freedom) for freedom, x in given], abs=1e-12)


def test_a_page_embeds_rows_and_no_conclusion(frames):
    data = payload(partition(frames[0]), None, DECLARED, ())
    assert set(data["rows"]).isdisjoint({"teacher_status", "teacher_verdict", "claim"})
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert len(data["teachers"]) == 3
    assert set(data["rows"]["mode"]) == set(MARGIN)
    assert Path(HERE / "live.js").read_text().count("fetch") == 0
