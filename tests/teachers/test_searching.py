"""Teacher search (arXiv 2605.05813): fitted on train rows, judged on others, every candidate on record."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from certvae.errors import TeacherFault
from certvae.quality import Thresholds, judge, measure, score
from certvae.spec.teachers import PcaGmm, WarmUpGmm
from certvae.teachers import mixture
from certvae.teachers.searching import Search, search

SPEC = WarmUpGmm(
    classes=3,
    whitening=(0, 2),
    covariance=("diag", "tied"),
    regulariser=(1e-3, 1e-1),
    temperature=(1.0, 4.0),
    initialisations=2,
    smoothing=0.02,
)
ONE = WarmUpGmm(
    classes=3,
    whitening=(0,),
    covariance=("diag",),
    regulariser=(1e-3,),
    temperature=(1.0,),
    initialisations=1,
)


def clouds(n: int = 240, seed: int = 0) -> np.ndarray:
    """Three balanced, separate clouds in five dimensions, float32 as features are."""
    generator = np.random.default_rng(seed)
    centres = 6 * np.eye(5)[np.arange(n) % 3]
    return (centres + generator.normal(size=(n, 5))).astype(np.float32)


def silent(event: Mapping[str, Any]) -> None:
    """Nobody listens."""


def found(
    spec: WarmUpGmm | PcaGmm = SPEC, train: np.ndarray | None = None, guard: np.ndarray | None = None, **given: Any
) -> Search:
    rows = clouds() if train is None else train
    held_out = clouds(60, seed=1) if guard is None else guard
    return search(rows, held_out, spec, **{"seed": 0, "device": "cpu", "report": silent, **given})


def test_separate_clouds_give_a_strict_feasible_teacher():
    result = found()
    assert judge(result.quality, SPEC.thresholds).status == "strict-feasible"
    assert result.quality.info > 0.9 * math.log(3)


def test_every_candidate_is_on_record():
    """2 whitenings x 2 initialisations x 2 covariances x 2 regularisers, each read at 2 temperatures."""
    facts = [candidate.facts() for candidate in found().candidates]
    keys = ("whitening", "initialisation", "covariance", "regulariser", "temperature")
    assert len(facts) == len({tuple(fact[key] for key in keys) for fact in facts}) == 32
    for fact in facts:
        assert fact["status"] in ("strict-feasible", "stress-case")
        assert fact["iterations"] >= 1
        assert isinstance(fact["converged"], bool)
        assert math.isfinite(fact["score"])
        assert 0 <= fact["info"] <= math.log(3)


def test_the_chosen_one_is_the_best_strict_feasible_one_of_the_guard_rows():
    result, guard = found(), clouds(60, seed=1)
    scored = [one for one in result.candidates if one.quality is not None]
    strict = [one for one in scored if one.verdict.status == "strict-feasible"]
    best = max(strict, key=lambda one: one.score)
    assert result.chosen == best.candidate
    assert best.score == score(result.quality)
    rows = result.mixture.teacher(guard, temperature=result.chosen.temperature, smoothing=SPEC.smoothing)
    assert measure(rows) == result.quality


def test_a_strict_feasible_candidate_wins_over_a_stress_case_with_a_better_score():
    """A rare cloud: the sharp reading has the better score, the soft one leaves more mass to the rare class."""
    train = clouds()[np.arange(240) % 12 != 2][np.arange(220) % 11 != 4]
    spec = WarmUpGmm(**{**vars(ONE), "temperature": (1.0, 30.0)})
    sharp, soft = (candidate.facts() for candidate in found(spec, train, train).candidates)
    assert sharp["score"] > soft["score"]
    assert sharp["min_mass"] < soft["min_mass"]
    between = Thresholds(
        info_share=0,
        top1_margin=0,
        high_margin_share=0,
        usage_share=1,
        min_mass_share=ONE.classes * (sharp["min_mass"] + soft["min_mass"]) / 2,
    )
    result = found(WarmUpGmm(**{**vars(spec), "thresholds": between}), train, train)
    assert result.chosen.temperature == 30.0


def test_without_a_feasible_candidate_the_best_is_run_as_a_stress_case():
    impossible = WarmUpGmm(**{**vars(SPEC), "thresholds": Thresholds(min_mass_share=2.0)})
    result = found(impossible)
    assert all(candidate.verdict.status == "stress-case" for candidate in result.candidates)
    best = max(result.candidates, key=lambda one: one.score)
    assert result.chosen == best.candidate
    assert "min mass" in str(judge(result.quality, impossible.thresholds))


def test_thresholds_move_the_verdict_and_never_a_fit():
    strict = found(ONE).mixture.arrays
    lenient = found(WarmUpGmm(**{**vars(ONE), "thresholds": Thresholds(info_share=0)})).mixture.arrays
    assert all(np.array_equal(strict[name], lenient[name]) for name in strict)


def test_rows_it_is_judged_on_do_not_enter_the_fit():
    poisoned = 100 * np.random.default_rng(5).normal(size=(60, 5)).astype(np.float32)
    clean, other = found(ONE), found(ONE, guard=poisoned)
    assert all(np.array_equal(clean.mixture.arrays[name], other.mixture.arrays[name]) for name in clean.mixture.arrays)
    assert clean.quality != other.quality


def test_the_same_seed_gives_the_same_search_and_another_seed_other_starts():
    one_start = WarmUpGmm(**{**vars(ONE), "classes": 12})
    first, again, other = (found(one_start, seed=seed) for seed in (3, 3, 4))
    assert first.quality == again.quality
    assert all(np.array_equal(first.mixture.arrays[name], again.mixture.arrays[name]) for name in again.mixture.arrays)
    assert not np.array_equal(first.mixture.arrays["means_"], other.mixture.arrays["means_"])


def test_the_global_generator_does_not_matter():
    np.random.seed(0)  # noqa: NPY002
    first = found(ONE)
    np.random.seed(1)  # noqa: NPY002
    assert found(ONE).quality == first.quality


def test_fit_rows_bounds_what_is_fitted_on():
    few = WarmUpGmm(**{**vars(ONE), "fit_rows": 50})
    assert not np.array_equal(found(few).mixture.arrays["means_"], found(ONE).mixture.arrays["means_"])
    weights = found(few).mixture.arrays["weights_"] * 50
    np.testing.assert_allclose(weights, np.round(weights), atol=1e-3)  # separate clouds: whole rows


def test_what_is_fitted_on_is_a_sample_of_all_rows_and_not_their_beginning():
    """Files of images are sorted by class."""
    by_cloud = np.concatenate([clouds()[start::3] for start in range(3)])
    few = WarmUpGmm(**{**vars(ONE), "fit_rows": 60})
    assert found(few, train=by_cloud).quality.info > 0.9 * math.log(3)


def test_the_energy_of_a_teacher_is_that_of_its_analytic_code_at_a_gain_of_five():
    spec = PcaGmm(classes=3, whitening=(2,), covariance=("diag",), regulariser=(1e-3,), temperature=(4.0,))
    result = found(spec)
    rows = result.mixture.teacher(clouds(60, seed=1), temperature=4.0, smoothing=spec.smoothing, device="cpu")
    logs = np.log(rows.astype(np.float64))
    spread = np.square(logs - logs.mean(axis=1, keepdims=True)).sum(axis=1).mean()
    (chosen,) = [one for one in result.candidates if one.candidate == result.chosen]
    assert chosen.energy == pytest.approx((3 - 1) / (2 * 3 * 5.0**2) * spread, rel=1e-6)


def test_torch_chooses_what_numpy_chooses(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    monkeypatch.setattr(mixture, "FEW", 0)  # few points would be the host's on every device
    on_numpy, on_torch = found(), found(device="cpu:0")
    assert on_torch.chosen == on_numpy.chosen
    for one, other in zip(on_numpy.candidates, on_torch.candidates, strict=True):
        assert one.quality is not None
        assert other.quality is not None
        assert other.quality.info == pytest.approx(one.quality.info, abs=1e-6)  # of rows that are cached in float32


def test_a_singular_candidate_is_infeasible_with_the_reason_and_the_search_goes_on():
    line = np.outer(np.linspace(-3, 3, 90), np.ones(4)).astype(np.float32)
    spec = WarmUpGmm(**{**vars(ONE), "covariance": ("full", "diag"), "regulariser": (0.0, 1e-3)})
    result = found(spec, line, line)
    failed = [one for one in result.candidates if one.fit is None]
    assert [(one.candidate.covariance, one.candidate.regulariser) for one in failed] == [("full", 0.0)]
    facts = failed[0].facts()
    assert facts["status"] == "stress-case"
    assert "not fitted: Fitting the mixture model failed" in facts["reason"]
    assert facts["reason"].endswith("Raise the regulariser or lower K.")
    assert "info" not in facts
    assert result.chosen.covariance == "diag" or result.chosen.regulariser > 0


def test_when_no_candidate_can_be_fitted_the_library_says_why():
    line = np.outer(np.linspace(-3, 3, 90), np.ones(4)).astype(np.float32)
    spec = WarmUpGmm(**{**vars(ONE), "covariance": ("full",), "regulariser": (0.0,)})
    with pytest.raises(TeacherFault, match=r"E-TEACH: none of 1 candidates could be fitted.*not fitted: Fitting"):
        found(spec, line, line)


def test_more_components_than_rows_are_refused_before_the_fit():
    with pytest.raises(TeacherFault, match="E-TEACH: 3 components for 2 rows"):
        found(ONE, clouds(2))
    with pytest.raises(TeacherFault, match="E-TEACH: 12 components for 10 rows"):
        found(WarmUpGmm(**{**vars(ONE), "classes": 12, "fit_rows": 10}))


@pytest.mark.filterwarnings("ignore:Number of distinct clusters", "ignore:divide by zero encountered in log")
def test_empty_components_make_a_stress_case_that_says_so():
    """Images in three places, five components: scikit-learn fits them without a word."""
    places = np.repeat(clouds(3), 30, axis=0)
    result = found(WarmUpGmm(**{**vars(ONE), "classes": 5}), places, places)
    (facts,) = (candidate.facts() for candidate in result.candidates)
    assert facts["status"] == "stress-case"
    assert "min mass 0.002 < 0.02" in facts["reason"]


@pytest.mark.parametrize("split", ["train", "guard"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_counted_and_refused(split, value):
    features = {"train": clouds(), "guard": clouds(60, seed=1)}
    features[split][[3, 7], 1] = value
    with pytest.raises(TeacherFault, match=f"E-TEACH: 2 of {len(features[split])} {split} feature rows"):
        found(ONE, features["train"], features["guard"])


@pytest.mark.parametrize("whitening", [0, 2])
def test_features_that_do_not_vary_carry_no_information(whitening):
    with pytest.raises(TeacherFault, match=r"E-TEACH: .* \(I_T = 0\.0000 nats\)"):
        found(WarmUpGmm(**{**vars(ONE), "whitening": (whitening,)}), np.ones((90, 5), np.float32))


def test_a_temperature_that_drowns_the_features_leaves_a_constant_teacher():
    with pytest.raises(TeacherFault, match=r"E-TEACH: .*temperature=1000000000000\.0"):
        found(WarmUpGmm(**{**vars(ONE), "temperature": (1e12,)}))


def test_dead_latent_units_and_few_rows_do_not_stop_a_search():
    features = clouds(12)
    features[:, 3:] = 0.5
    result = found(WarmUpGmm(**{**vars(SPEC), "whitening": (0, 4)}), features, features)
    assert {candidate.candidate.whitening for candidate in result.candidates} == {0, 4}
    assert all(candidate.quality is not None for candidate in result.candidates)


def test_whitening_to_all_dimensions_or_more_is_no_whitening():
    result = found(WarmUpGmm(**{**vars(ONE), "whitening": (0, 5, 64)}))
    assert [one.candidate.whitening for one in result.candidates] == [0]


def test_features_of_any_size_are_fitted():
    for size in (1e-15, 1e15):
        result = found(
            WarmUpGmm(**{**vars(ONE), "regulariser": (0.0,)}), clouds() * np.float32(size), clouds() * np.float32(size)
        )
        assert result.quality.info > 0.9 * math.log(3)


def test_one_k_means_serves_all_covariances_and_regularisers(monkeypatch):
    made = []

    class Counted(mixture.Start):
        def __init__(self, *given: Any):
            made.append(given)
            super().__init__(*given)

    monkeypatch.setattr("certvae.teachers.searching.Start", Counted)
    found()
    assert len(made) == 2 * SPEC.initialisations


def test_progress_is_reported_fit_by_fit():
    events: list[dict[str, Any]] = []
    found(report=lambda event: events.append(dict(event)))
    assert [event["step"] for event in events] == list(range(1, 17))
    assert {event["steps"] for event in events} == {16}
    assert all(event["stage"] == "teacher" and event["seconds"] >= 0 for event in events)
