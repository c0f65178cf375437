import numpy as np
import pandas as pd
import pytest

from analysis.load import load
from analysis.parameters import config_order, labels, parameters
from analysis.report import Request, gather
from analysis.search import configs, goal_of, importance
from analysis.table import Table
from analysis.tables.search import config_table
from analysis.views import Refused, everything, partition
from certvae.canonical import digest
from certvae.spec.goal import Goal, ended_kind
from certvae.store.store import Store
from tests.analysis_rows import STRESS, STUDY, chains, filled, lost, row, search, searched


def found_in(path, rows, goal: Goal = Goal()) -> pd.DataFrame:
    return configs(partition(load(filled(path, rows))), goal)


def tried(weight: float, margins, drop: float = 0.4, seeds=range(3), **changes) -> list[dict]:
    """A config with these margins of full on guard rows, and its PSNR so many dB below the reference."""
    given = {"split": "guard", "parameters": {"objective.lambda_ts": weight}, **changes}
    rows = [
        {
            "full": row(seed, margin=margin, psnr_01=19 - drop, **given),
            "no_align": row(seed, "no_align", psnr_01=19.0, **given),
        }
        for seed, margin in zip(seeds, margins, strict=True)
    ]
    return [one for pair in rows for one in pair.values()]


def leads(path, rows, goal: Goal, **options) -> tuple[float, Table]:
    """lambda_ts of the config that a report is about, and its table of configs."""
    material, _ = gather(Request(store=searched(path, rows, goal), study=STUDY, **options))
    (spec,) = {one["objective"]["lambda_ts"] for one in material.rows["spec"]}
    assert material.tried is not None
    return spec, config_table(material.scored, everything(material.tried), material.view)


class TestTheReportAndTheSearchAgree:
    """The goal that the store holds says which config is best, in the report as in the search."""

    def test_a_config_whose_stress_case_diverged_is_incomplete(self, tmp_path):
        gone = {"key_teacher": digest("shared"), **STRESS}
        given = {"split": "guard", "parameters": {"objective.lambda_ts": 1.0}, "key_teacher": gone["key_teacher"]}
        better = [*tried(1.0, (1.9, 1.9), seeds=range(2)), lost(2, **given), row(2, "no_align", **given, **STRESS)]
        first, table = leads(tmp_path, [*better, *tried(2.0, (1.5, 1.5, 1.5))], Goal())
        assert first == 2.0
        assert table.frame["outcome"].tolist() == ["complete", "incomplete"]
        assert "seed 2: diverged" in table.frame["reason"].iloc[1]

    def test_a_config_that_the_search_ended_early_says_so(self, tmp_path):
        half = [one for one in tried(1.0, (1.9, 1.9, 1.9)) if one["seed"] < 1]
        store = searched(tmp_path, [*half, *tried(2.0, (1.5, 1.5, 1.5))], Goal())
        body = {"config": half[0]["config"], "reason": "stopped after 1 of 3 seeds"}
        Store(store).put_document(ended_kind(STUDY), "f" * 64, body)
        material, _ = gather(Request(store=store, study=STUDY))
        assert material.scored is not None
        assert material.scored["reason"].iloc[-1] == body["reason"]

    def test_the_score_is_that_of_the_goal(self, tmp_path):
        rows = [*tried(1.0, (3.0, 3.0, 0.1)), *tried(2.0, (1.5, 1.5, 1.5))]
        assert leads(tmp_path / "mean", rows, Goal())[0] == 1.0
        first, table = leads(tmp_path / "worst", rows, Goal(score="worst"))
        assert first == 2.0
        assert table.frame["score"].tolist() == [1.5, 0.1]

    def test_the_constraint_is_that_of_the_goal(self, tmp_path):
        rows = [*tried(1.0, (1.9, 1.9, 1.9), drop=1.0), *tried(2.0, (1.5, 1.5, 1.5), drop=0.2)]
        assert leads(tmp_path / "wide", rows, Goal())[0] == 1.0
        assert leads(tmp_path / "narrow", rows, Goal(psnr_drop=0.5))[0] == 2.0
        assert leads(tmp_path / "narrow", rows, Goal(psnr_drop=0.5), psnr_drop=1.2)[0] == 1.0

    def test_a_search_for_another_mode(self, tmp_path):
        rows = [{**one, "mode": {"full": "rescue"}.get(one["mode"], one["mode"])} for one in tried(1.0, (1.9,) * 3)]
        both = [*rows, *tried(1.0, (0.2,) * 3)[::2], *tried(2.0, (1.5, 1.5, 1.5))]
        first, table = leads(tmp_path, both, Goal(mode="full"))
        assert first == 2.0
        assert set(table.frame["mode"]) == {"full"}

    def test_a_search_seed_without_rows_makes_a_config_incomplete(self, tmp_path):
        rows = [*tried(1.0, (1.9, 1.9), seeds=range(2)), *tried(2.0, (1.5, 1.5), seeds=range(2))]
        _, table = leads(tmp_path, rows, Goal())
        assert table.frame["outcome"].tolist() == ["incomplete"] * 2


def test_a_config_is_scored_by_its_strict_seeds(tmp_path):
    rows = [*chains([0, 1], split="guard"), *chains([2], split="guard", margin=-9.0, **STRESS)]
    (found,) = found_in(tmp_path, rows).to_dict("records")
    assert found["score"] == pytest.approx(1.805)
    assert found["margin_min"] == pytest.approx(1.8)
    assert found["psnr_change"] == pytest.approx(-0.4)
    assert (found["mode"], found["n"], found["n_stress"], found["complete"]) == ("full", 2, 1, True)


@pytest.mark.parametrize("failure", [lost(1, "full"), lost(1, "no_align"), row(1, psnr_01=None)])
def test_a_config_with_a_failed_seed_has_no_mean_and_is_not_feasible(tmp_path, failure):
    others = [one for one in chains([0, 1]) if (one["seed"], one["mode"]) != (1, failure["mode"])]
    (found,) = found_in(tmp_path, [{**one, "split": "guard"} for one in (*others, failure)]).to_dict("records")
    assert np.isnan(found["score"])
    assert (found["complete"], found["feasible"], found["front"], found["n_failed"]) == (False, False, False, 1)


def test_configs_are_judged_on_guard_rows(tmp_path):
    with pytest.raises(Refused, match="wanted guard rows, found certify"):
        found_in(tmp_path, chains())


def test_a_search_is_about_the_pair_that_most_configs_have(tmp_path):
    """A search for the best rescue trains no full; the chains that confirm its winner do."""
    weights = [{"alpha_kl": 0.1 * (number + 1)} for number in range(3)]
    lean = [one for spec in weights for one in chains([0, 1], modes=["no_align", "rescue"], parameters=spec)]
    whole = chains([7, 8], parameters=weights[1])
    assert goal_of(load(filled(tmp_path, [*lean, *whole]))) == Goal(mode="rescue")
    assert goal_of(load(filled(tmp_path / "lone", chains(modes=["full"])))) == Goal()


def test_configs_of_a_search_are_ranked_feasible_first(tmp_path):
    found = found_in(tmp_path, search(12))
    feasible = found["feasible"].tolist()
    assert feasible == sorted(feasible, reverse=True)
    assert found.loc[found["feasible"], "score"].is_monotonic_decreasing
    assert found["score"].iloc[0] == pytest.approx(1.8, abs=0.05)


def test_parameters_are_the_fields_that_differ_by_their_shortest_names(tmp_path):
    rows = [
        row(parameters={"objective.alpha_kl": kl, "training.learning_rate": rate, "warm_up.alpha_kl": 2 * kl})
        for kl in (1.0, 2.0)
        for rate in (0.1, 0.2)
    ]
    varied = parameters(load(filled(tmp_path, rows)))
    assert list(varied) == ["objective.alpha_kl", "learning_rate", "warm_up.alpha_kl"]
    assert len(varied) == 4


def test_a_seed_is_no_parameter(tmp_path):
    assert parameters(load(filled(tmp_path, chains()))).shape == (1, 0)


def test_a_branch_of_another_type_is_named_by_it_and_not_by_the_fields_that_follow(tmp_path):
    fitted = {"type": "PcaGmm", "whitening": 16, "covariance": "diag", "regulariser": 0.01}
    branches = fitted, {"type": "Labels"}
    rows = [row(parameters={f"teacher.{name}": value for name, value in branch.items()}) for branch in branches]
    frame = load(filled(tmp_path, rows))
    assert sorted(labels(frame).values()) == ["teacher Labels", "teacher PcaGmm"]
    assert {"teacher", "whitening"} < set(parameters(frame))


def test_configs_are_named_by_few_parameters_and_by_their_digest_otherwise(tmp_path):
    few = load(filled(tmp_path / "few", [row(parameters={"objective.alpha_kl": kl}) for kl in (1.0, 8.0)]))
    assert sorted(labels(few).values()) == ["alpha_kl 1", "alpha_kl 8"]
    names = ("objective.alpha_kl", "objective.lambda_ts", "objective.lambda_bal", "training.epochs")
    many = load(filled(tmp_path / "many", [row(parameters=dict.fromkeys(names, x)) for x in (1, 2)]))
    assert labels(many) == {config: config[:8] for config in many["config"]}
    close = load(filled(tmp_path / "close", [row(parameters={"objective.alpha_kl": kl}) for kl in (1.0, 1.0 + 1e-9)]))
    assert len(set(labels(close).values())) == 2


def test_configs_are_ordered_by_value_and_not_by_text(tmp_path):
    frame = load(filled(tmp_path, [row(parameters={"objective.alpha_kl": kl}) for kl in (10.0, 2.0, 1.0)]))
    weights = {
        config: spec["objective"]["alpha_kl"] for config, spec in zip(frame["config"], frame["spec"], strict=True)
    }
    assert [weights[config] for config in config_order(frame)] == [1.0, 2.0, 10.0]


def world(n: int, score, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    generator = np.random.default_rng(seed)
    x, y = generator.uniform(-1, 1, size=(2, n))
    names = pd.Index([f"{k:064d}" for k in range(n)])
    varied = pd.DataFrame({"x": x, "y": y, "kind": np.where(y > 0, "a", "b")}, index=names)
    return pd.DataFrame({"config": names, "score": score(x, y)}), varied


def test_a_parameter_that_matters_is_found_whatever_the_shape_of_its_effect():
    straight = importance(*world(200, lambda x, _: 3 * x)).set_index("parameter")
    assert straight.loc["x", "importance"] > 0.9
    assert straight.loc["x", "direction"] == pytest.approx(1)
    bowl = importance(*world(200, lambda x, _: x**2)).set_index("parameter")
    assert bowl.loc["x", "importance"] > 0.4
    assert abs(bowl.loc["x", "direction"]) < 0.2


def test_a_parameter_that_does_not_matter_has_no_importance_on_average():
    found = [importance(*world(40, lambda x, _: x, seed)).set_index("parameter") for seed in range(60)]
    assert np.mean([one.loc["y", "importance"] for one in found]) < 0.04
    assert np.mean([one.loc["kind", "importance"] for one in found]) < 0.04


def test_a_choice_has_importance_and_no_direction():
    found = importance(*world(100, lambda _, y: np.where(y > 0, 1.0, 2.0))).set_index("parameter")
    assert found.loc["kind", "importance"] > 0.9
    assert np.isnan(found.loc["kind", "direction"])


def test_importance_of_a_constant_score_is_none():
    assert importance(*world(20, lambda x, _: 0 * x))["importance"].tolist() == [0.0, 0.0, 0.0]


def test_importance_of_a_few_configs_is_refused():
    scored, varied = world(12, lambda x, _: x)
    scored.loc[:2, "score"] = np.nan
    with pytest.raises(Refused, match="at least 10 complete configs, got 9"):
        importance(scored, varied)
