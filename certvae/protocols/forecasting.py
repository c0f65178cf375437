"""Forecasts the collapse of the modes of a cell, from one spectrum per data set and likelihood.

A mode without alignment is forecast from the data alone, an aligned one from its teacher rows as well. A mode whose
weights move, or whose code is pressed by anything else than KL and alignment, has none.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from certvae.data.dataset import Dataset
from certvae.spec.parts import Bernoulli, Gaussian, Model
from certvae.store.artifact import Artifact, Content
from certvae.store.store import Store, Workbench, stage

if TYPE_CHECKING:
    from certvae.evaluation.forecast import Forecast, Spectrum


@dataclass(frozen=True)
class Pressure:
    """What presses on the code of a mode, as far as a forecast knows.

    lambda_ts   0 without alignment
    """

    alpha_kl: float
    lambda_ts: float = 0.0
    decoder_sees_teacher: bool = False

    @property
    def needs_teacher(self) -> bool:
        """Whether the forecast depends on teacher rows, and not on the data alone."""
        return self.lambda_ts > 0 or self.decoder_sees_teacher


@stage(version=1)
def spectrum(dataset: Dataset, likelihood: Gaussian | Bernoulli, latent: int | None, *, bench: Workbench) -> Content:  # noqa: ARG001
    """Leading coordinates of the train rows; a change of any number of a forecast is a new version of this."""
    from certvae.evaluation import forecast

    found = forecast.spectrum(dataset, likelihood, latent)
    return Content({"scores": found.scores, "rows": found.rows}, {"latent": latent, "is_local": found.is_local})


def spectrum_of(model: Model, dataset: Dataset, store: Store) -> Artifact:
    """The spectrum that all cells of this data set, likelihood and latent width share."""
    return store.call(spectrum, dataset, model.likelihood, model.latent)


def ahead(known: Artifact, pressure: Pressure, teacher: Artifact | None) -> "Forecast":
    """The forecast of a mode.

    Args:
        known: the spectrum.
        teacher: None where it is not known yet: what the decoder sees of it then does not count.
    """
    found = _read(known)
    if teacher is None or not pressure.needs_teacher:
        return found.plain()
    sees = pressure.decoder_sees_teacher
    return found.taught(teacher.arrays["targets_train"], pressure.lambda_ts, decoder_sees_teacher=sees)


def critical_weight(known: Artifact, pressure: Pressure, teacher: Artifact) -> float:
    """The least alignment weight that holds a unit of this code."""
    T, sees = teacher.arrays["targets_train"], pressure.decoder_sees_teacher
    return _read(known).critical_weight(T, pressure.alpha_kl, decoder_sees_teacher=sees)


def columns(known: Artifact, pressure: Pressure, teacher: Artifact) -> dict[str, float | int | str]:
    """The columns of a row that hold the forecast of its mode."""
    found = ahead(known, pressure, teacher)
    units = found.units(pressure.alpha_kl)
    when = {"alpha_crit": found.alpha_crit, "alpha_dead": found.alpha_dead}
    return {**when, "forecast_units": units, "key_spectrum": known.key}


def _read(known: Artifact) -> "Spectrum":
    from certvae.evaluation.forecast import Spectrum

    return Spectrum(**known.arrays, **known.facts)
