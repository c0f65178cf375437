"""The numbers and words of a row, one line each: how they are called and shown, and who reads them.

To add a diagnostic, add its line: the frames of `analysis`, the tables of its readers, and MLflow follow. The order is
that of columns. Everything that ends in `_margin` is in nats and certifies nothing unless it is `margin` itself.
"""

from dataclasses import dataclass
from typing import Literal

from certvae.spec.rescue import MOST_LEVELS

Unit = Literal["", "nats", "dB"]
Form = Literal["signed", "plain", "coarse", "short", "count", "share", "p", "text"]
"""signed and plain: four decimals; coarse: two; short: three digits; share: per cent."""
Reader = Literal["final", "headline", "summary", "seeds", "bounds", "heads", "code", "reconstruction", "quality"]
"""final: the table that ends a run; headline: MLflow, before all other numbers; summary: means over seeds; the others:
tables of the report."""


@dataclass(frozen=True)
class Quantity:
    """A column of a row."""

    name: str
    heading: str
    """May hold a symbol such as I_T, whose tail is set as a subscript."""
    unit: Unit = ""
    form: Form = "plain"
    readers: tuple[Reader, ...] = ()


def _text(name: str, heading: str, *readers: Reader) -> Quantity:
    return Quantity(name, heading, "", "text", readers)


def _nats(name: str, heading: str, form: Form, *readers: Reader) -> Quantity:
    return Quantity(name, heading, "nats", form, readers)


def _psnr(name: str, heading: str, *readers: Reader) -> Quantity:
    return Quantity(name, heading, "dB", "coarse", ("reconstruction", *readers))


def _count(name: str, heading: str, *readers: Reader) -> Quantity:
    return Quantity(name, heading, "", "count", readers)


def _number(name: str, heading: str, form: Form, *readers: Reader) -> Quantity:
    return Quantity(name, heading, "", form, readers)


def _level(level: int) -> tuple[Quantity, ...]:
    """Of one coarse level of a curriculum."""
    parts = _count(f"level_{level}_classes", f"parts of level {level}", "heads")
    info = _nats(f"level_{level}_info", f"I_T of level {level}", "plain")
    return parts, info, _nats(f"level_{level}_margin", f"G_0 of level {level}", "signed", "heads")


QUANTITIES = (
    _text("config", "config", "final"),
    _count("seed", "seed", "final"),
    _text("mode", "mode", "final"),
    _text("outcome", "outcome", "final"),
    _text("reason", "reason"),
    _text("teacher_status", "teacher", "final"),
    _text("teacher_verdict", "verdict on the teacher"),
    _text("teacher_source", "source"),
    _text("teacher_features", "features"),
    _number("teacher_seed", "seed of the teacher", "count"),
    _count("classes", "K"),
    _nats("info", "I_T", "plain", "final", "headline", "summary"),
    _nats("loss", "L_TS", "plain", "final", "headline", "summary"),
    _nats("margin", "G_0", "signed", "final", "headline", "summary", "heads"),
    _nats("population_bound", "population bound, betting", "signed", "final", "headline", "bounds"),
    _nats("bernstein_bound", "L2, empirical Bernstein", "signed", "bounds"),
    _nats("mcdiarmid_bound", "L1, McDiarmid", "signed", "bounds"),
    _nats("brier_bound", "L4, Brier margin", "signed", "bounds"),
    _nats("wald_bound", "normal limit (descriptive)", "signed", "bounds"),
    _number("delta", "delta", "short", "bounds"),
    _count("look", "look", "bounds"),
    _count("looks", "of looks", "final", "bounds"),
    _count("claims", "claims together", "final", "bounds"),
    _text("withheld", "why there is no claim", "bounds"),
    _text("preconditions", "about the rows"),
    _nats("sampled_margin", "G_0 on draws", "signed", "heads"),
    _nats("affine_margin", "best affine head", "signed", "heads"),
    _nats("affine_population_bound", "bound of the best affine head", "signed"),
    _nats("short_affine_margin", "affine head, short fit", "signed", "heads"),
    _nats("relabelled_margin", "raw head, classes renamed", "signed", "heads"),
    _nats("rotation_margin", "best rotation", "signed", "heads"),
    *(quantity for level in range(1, 1 + MOST_LEVELS) for quantity in _level(level)),
    _nats("sampled_affine_margin", "best affine head on draws", "signed", "heads"),
    _number("probe_accuracy", "label probe", "share", "heads"),
    _nats("brier_margin", "Brier margin", "signed"),
    _nats("imbalance", "imbalance", "plain"),
    _nats("student_info", "I_S", "plain", "final", "headline", "summary", "seeds"),
    _nats("affine_student_info", "I_S of the best affine head", "plain"),
    _nats("short_affine_student_info", "I_S of the short fit", "plain"),
    _nats("used_loss", "loss of the used head", "plain"),
    _nats("used_margin", "difference of the used head", "signed"),
    _psnr("psnr_01", "PSNR, [0,1] pixels", "final", "headline", "summary"),
    _psnr("psnr_01_latent_only", "PSNR, [0,1] pixels, mean teacher row in the decoder"),
    _psnr("psnr_std", "PSNR, standardised pixels", "summary"),
    _count("student_used_classes", "classes used", "seeds", "code"),
    _nats("kl_rate", "KL, nats", "coarse", "headline", "summary", "seeds", "code"),
    _count("active_units", "active units", "final", "headline", "summary", "seeds", "code"),
    _number("alpha_crit", "alpha_crit, forecast", "short", "code"),
    _number("alpha_dead", "alpha_kl of a dead channel, forecast", "short", "code"),
    _count("forecast_units", "units, forecast", "code"),
    _nats("response", "response to alignment before it began, nats a step", "short", "code"),
    _number("critical_weight", "least lambda_ts, forecast", "short", "code"),
    _number("largest_weight", "largest lambda_ts", "short"),
    _text("units_word", "units", "code"),
    _count("certified_units", "units certified, at least"),
    _text("mean_word", "mean", "code"),
    _text("channel_word", "channel", "code"),
    _number("posterior_std", "posterior std", "plain", "code"),
    _number("affine_gain", "gain of the affine head", "coarse", "code"),
    _nats("sampled_affine_population_bound", "bound on draws, affine head", "signed", "code"),
    _number("mean_square_mu", "E||mu||^2", "coarse", "code"),
    _number("mean_square_mu_witness", "E||mu||^2 inside W", "coarse"),
    _nats("reconstruction", "reconstruction, nats", "coarse", "code"),
    _nats("usage_gap_witness", "cost of a permuted witness part, nats", "short", "code"),
    _number("force_norm", "force", "short", "code"),
    _number("force_floor", "least force at a constant code", "short"),
    _number("view_gap", "view gap", "short", "code"),
    _nats("teacher_code_energy", "teacher code energy, nats", "short", "code"),
    _nats("energy_budget", "energy budget, nats", "short"),
    _nats("teacher_drift", "teacher drift, nats", "short", "code"),
    _count("binding_units", "units on which free bits bind"),
    _count("used_codes", "codes in use"),
    _nats("teacher_info", "I_T", "plain", "quality"),
    _number("teacher_top1_margin", "top-1 margin", "plain", "quality"),
    _number("teacher_high_margin_share", "sharp rows", "share", "quality"),
    _nats("teacher_hard_usage_kl", "hard usage KL", "plain", "quality"),
    _nats("teacher_soft_usage_kl", "soft usage KL", "plain", "quality"),
    _number("teacher_min_mass", "min mass", "plain", "quality"),
    _text("split", "split", "final"),
    _count("n", "inputs", "final"),
)
BY_NAME = {quantity.name: quantity for quantity in QUANTITIES}


def read_by(reader: Reader) -> tuple[str, ...]:
    """The names of what a reader shows, in order."""
    return tuple(quantity.name for quantity in QUANTITIES if reader in quantity.readers)
