import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.load import load
from analysis.parameters import config_order, labels, parameters
from analysis.search import configs, importance, pareto, ranked
from analysis.views import DECLARED, Refused, Strict, View, partition
from tests.analysis_rows import STRESS, chains, filled, lost, row, search


def strict_of(path, rows) -> Strict:
    return partition(load(filled(path, rows))).strict


coordinates = st.floats(-3, 3).map(lambda x: round(x, 1))


@given(st.lists(st.tuples(coordinates, coordinates), max_size=30))
def test_the_front_holds_the_points_that_no_other_dominates(points):
    margin, psnr = (np.array([point[axis] for point in points], dtype=float) for axis in (0, 1))
    dominated = [
        any(m >= x and p >= y and (m, p) != (x, y) for m, p in zip(margin, psnr, strict=True))
        for x, y in zip(margin, psnr, strict=True)
    ]
    assert pareto(margin, psnr).tolist() == [not one for one in dominated]


def test_a_config_without_a_number_is_never_on_the_front():
    assert pareto(np.array([np.nan, 1.0, 2.0]), np.array([9.0, np.nan, 1.0])).tolist() == [False, False, True]


def test_a_config_is_scored_by_its_strict_seeds(tmp_path):
    rows = [*chains([0, 1]), *chains([2], margin=-9.0, **STRESS)]
    (found,) = configs(strict_of(tmp_path, rows)).to_dict("records")
    assert found["margin"] == pytest.approx(1.805)
    assert found["margin_min"] == pytest.approx(1.8)
    assert found["psnr_change"] == pytest.approx(-0.4)
    assert (found["mode"], found["reference"], found["n"], found["complete"]) == ("full", "no_align", 2, True)


@pytest.mark.parametrize("failure", [lost(1, "full"), lost(1, "no_align"), row(1, psnr_01=None)])
def test_a_config_with_a_failed_seed_has_no_mean_and_is_not_feasible(tmp_path, failure):
    others = [one for one in chains([0, 1]) if (one["seed"], one["mode"]) != (1, failure["mode"])]
    (found,) = configs(strict_of(tmp_path, [*others, failure])).to_dict("records")
    assert np.isnan(found["margin"])
    assert (found["complete"], found["feasible"], found["front"], found["n_failed"]) == (False, False, False, 1)


@pytest.mark.parametrize(
    ("view", "feasible"),
    [
        (DECLARED, True),
        (View(psnr_drop=0.3), False),
        (View(psnr_drop=None), True),
        (View(psnr_drop=None, psnr_floor=19.5), False),
        (View(psnr_drop=0.3, psnr_floor=15.0), False),
    ],
)
def test_the_psnr_constraint_is_a_view(tmp_path, view, feasible):
    (found,) = configs(strict_of(tmp_path, chains()), view).to_dict("records")
    assert found["feasible"] is feasible


def test_a_mode_without_its_reference_has_no_score(tmp_path):
    with pytest.raises(Refused, match="wanted a mode and its reference, found full"):
        configs(strict_of(tmp_path, chains(modes=["full"])))


def test_a_search_is_about_the_pair_that_most_configs_have(tmp_path):
    """A search for the best rescue trains no full; the chains that confirm its winner do."""
    tried = [{"alpha_kl": 0.1 * (number + 1)} for number in range(3)]
    lean = [one for spec in tried for one in chains([0, 1], modes=["no_align", "rescue"], parameters=spec)]
    whole = chains([7, 8], parameters=tried[1])
    scored = configs(strict_of(tmp_path, [*lean, *whole]))
    assert scored["complete"].tolist() == [True] * 3
    assert (set(scored["mode"]), set(scored["reference"])) == ({"rescue"}, {"no_align"})


def test_configs_of_a_search_are_ranked_feasible_first(tmp_path):
    found = ranked(configs(strict_of(tmp_path, search(12))))
    feasible = found["feasible"].tolist()
    assert feasible == sorted(feasible, reverse=True)
    assert found.loc[found["feasible"], "margin"].is_monotonic_decreasing
    assert found["margin"].iloc[0] == pytest.approx(1.8, abs=0.05)


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
    return pd.DataFrame({"config": names, "margin": score(x, y)}), varied


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
    scored.loc[:2, "margin"] = np.nan
    with pytest.raises(Refused, match="at least 10 complete configs, got 9"):
        importance(scored, varied)
