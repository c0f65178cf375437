"""A monitor for any training loop: it looks at guard images now and then, and says what becomes of their code.

    import torch
    from certvae import Monitor

    encoder, teacher_rows = torch.nn.Linear(64, 8), torch.eye(4).repeat(100, 1)
    monitor = Monitor(teacher_rows, guard_images=torch.rand(400, 64), log=print)
    for _ in range(3):
        ...  # a step of training
        monitor.step(encoder)

At the first step, and then as seldom as keeps it below a fiftieth of the time, it encodes the guard images, fits an
affine head to one part of them and holds it against another: nobody needs to have trained one. Teacher rows come from
labels, or from `certvae.fit_teacher(features).rows(guard_features)`.

    T  (n, K)  teacher rows of the guard images     mu, logvar  (n, d)  of q(z|x); an encoder without noise has mu alone
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from certvae.certificate import Certificate, Pairs, View, certify
from certvae.errors import ConfigFault
from certvae.evaluation import diagnostics, forecast
from certvae.evaluation.heads import AffineHead, affine_head
from certvae.monitor.encoding import Encode, beside, encoded, reached
from certvae.monitor.findings import SEVERITIES, Finding, Observation, Severity, expected, findings
from certvae.spec.parts import Gaussian

SHARE = 0.02  # of the time of a loop
MOST_ROWS = 1000  # guard images that are looked at
PARTS = 0.4, 0.6  # of the rows: a head is fitted to the first, stopped on what follows, held against the rest
LEAST_ROWS = 20
logger = logging.getLogger("certvae")


class Monitor:
    """Looks at a network while somebody trains it.

    Args:
        teacher_rows: (n, K), probabilities, of images that training never sees.
        guard_images: (n, ...) the images; at most 1,000 of them are looked at, on the device of the network.
        log: takes a dict of numbers at every look: `wandb.log`, `mlflow.log_metrics`, or a function of yours.
        every: steps between looks; by default as many as keep the monitor below a fiftieth of the time.
        kl_weight: weight of the KL in the loss, and
        variance: of a Gaussian likelihood on these images: together they tell whether a dead code is expected.

    Raises:
        ConfigFault: rows and images that do not belong together, or rows that are no probabilities.
    """

    def __init__(
        self,
        teacher_rows: Any,
        guard_images: Any,
        *,
        log: Callable[[dict[str, float]], Any] | None = None,
        every: int | None = None,
        kl_weight: float | None = None,
        variance: float | None = None,
    ):
        _check_given(guard_images, every)
        rows = _distributions(teacher_rows, guard_images.shape[0])
        chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:MOST_ROWS])
        order = np.random.default_rng(1).permutation(len(chosen))
        self._parts = np.split(order, [round(share * len(order)) for share in PARTS])
        self._chosen, self._teacher = chosen, rows[chosen]
        self._images = _picked(guard_images, chosen)
        self._log, self._every = log, every
        self._steps, self._again, self._seen = 0, 0.0, set[tuple[str, str]]()
        self.observations: list[Observation] = []
        self.expected: Finding | None = None
        """What the KL weight and the images say before training."""
        if kl_weight is not None and variance is not None:
            self.expected = expected(self._forecast(variance), kl_weight)
            self._tell([self.expected])

    def step(self, encode: Encode) -> Observation | None:
        """Counts a step of training, and looks when it is time to; None when it is not.

        Args:
            encode: images -> mu, (mu, logvar), or q(z|x) as a normal distribution: a module, a method of one, or a
                function that reaches modules, as `lambda x: vae(x)[1:3]`. They are in evaluation mode meanwhile, so
                that neither dropout nor running statistics notice, and images come in the type of their weights.
                Wide codes are slow, 5 s of processor and 2 GB for 25,000 numbers an image: pool maps over places.
        """
        _check_function(encode)
        self._steps += 1
        if not self._is_due:
            return None
        began, levels = time.perf_counter(), reached(encode)
        self._images = beside(self._images, levels)
        mu, logvar = encoded(encode, self._images, levels)
        found = self._look(mu, logvar, None)
        ended = time.perf_counter()
        self._again = ended + (ended - began) / SHARE
        return found

    def observe(self, mu: Any = None, logvar: Any = None, *, logits: Any = None) -> Observation:
        """Counts a step, and looks at codes of the guard images, and at logits of a head of one's own that reads them.

        Args:
            mu: (n, ...) of the images that are looked at, `images`; logvar likewise; either may be absent.
            logits: (n, K) of a head that reads the latent alone.

        Raises:
            ConfigFault: neither mu nor logits, or not one row per image.
        """
        if mu is None and logits is None:
            raise ConfigFault(
                "observe needs mu or logits, got neither", "give what the encoder returned", where="Monitor"
            )
        self._steps += 1
        return self._look(mu, logvar, logits)

    @property
    def images(self) -> Any:
        """The guard images that are looked at, in the order in which `observe` wants their codes."""
        return self._images

    @property
    def worst(self) -> Severity | None:
        """The most severe finding of the last look."""
        found = [*self.observations[-1].findings] if self.observations else []
        found += [self.expected] if self.expected else []
        return SEVERITIES[max(SEVERITIES.index(one.severity) for one in found)] if found else None

    def json(self) -> str:
        """All looks and findings, for a file that CI reads."""
        known = {"worst": self.worst, "expected": None if self.expected is None else vars(self.expected)}
        return json.dumps({**known, "observations": [one.as_dict() for one in self.observations]}, indent=1)

    def state_dict(self) -> dict[str, Any]:
        """Steps and looks as plain values, for a checkpoint, or `accelerator.register_for_checkpointing`."""
        looks = [
            (one.step, {name: None if value is None else float(value) for name, value in one.row.items()})
            for one in self.observations
        ]
        return {"steps": self._steps, "looks": looks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken: trends and steps are those of the whole training."""
        self._steps, self.observations = state["steps"], []
        for step, row in state["looks"]:
            found = Observation(step=step, row=row, findings=findings(row, self.observations, step))
            self.observations.append(found)
            self._seen = _told(found.findings)

    def lightning(self, encode: Callable[[Any, Any], Any] | None = None) -> Any:
        """This monitor as a callback of Lightning; `encode(module, images)` is `module.encode(images)` by default.

        Of several processes that hold a copy each (DDP) the first looks alone; the others have no observations.
        """
        from certvae.monitor.callbacks import lightning  # noqa: PLC0415

        return lightning(self, encode)

    def transformers(self, encode: Callable[[Any, Any], Any] | None = None) -> Any:
        """This monitor as a callback of transformers' Trainer; see `lightning`."""
        from certvae.monitor.callbacks import transformers  # noqa: PLC0415

        return transformers(self, encode)

    @property
    def _is_due(self) -> bool:
        if self._every is not None:
            return (self._steps - 1) % self._every == 0
        return time.perf_counter() >= self._again

    def _look(self, mu: Any, logvar: Any, logits: Any) -> Observation:
        wanted = {"mu": mu, "logvar": logvar, "logits": logits}
        given = {name: self._given(name, rows) for name, rows in wanted.items()}
        _check_columns("logvar", given["logvar"], "mu", given["mu"])
        _check_columns("logits", given["logits"], "teacher_rows", self._teacher)
        row = self._measured(**given)
        found = Observation(step=self._steps, row=row, findings=findings(row, self.observations, self._steps))
        self.observations.append(found)
        self._tell(found.findings)
        if self._log is not None:
            self._log({**found.numbers, "certvae/step": float(found.step)})
        return found

    @np.errstate(under="ignore")
    def _measured(self, mu: np.ndarray | None, logvar: np.ndarray | None, logits: np.ndarray | None) -> dict[str, Any]:
        with np.errstate(over="ignore"):  # a variance that float32 cannot hold is none in the loss of the loop either
            variance = None if logvar is None else np.exp(logvar.astype(np.float32))
        if not all(np.isfinite(one).all() for one in (mu, logvar, variance, logits) if one is not None):
            return {"finite": 0.0}
        row: dict[str, Any] = {"finite": 1.0}
        if logits is not None:
            found = self._certificate(logits, slice(None), "mu")
            row |= {"margin": found.margin, "population_bound": found.population_bound}
        return row if mu is None else row | self._of_code(mu, logvar)

    def _of_code(self, mu: np.ndarray, logvar: np.ndarray | None) -> dict[str, Any]:
        head = self._head(mu)
        found = self._certificate(head.logits(mu), self._parts[2], "mu")
        row = {
            "affine_margin": found.margin,
            "affine_population_bound": found.population_bound,
            "affine_gain": head.gain,
            "largest_std": float(mu.std(axis=0).max()),
            "active_units": float(diagnostics.active_units(mu)),
        }
        if logvar is None:
            return row | {"posterior_std": 0.0}  # an encoder without noise: its embedding is what is drawn
        drawn = diagnostics.sampled(mu, logvar, np.random.default_rng(2))
        on_draws = self._certificate(self._head(drawn).logits(drawn), self._parts[2], "sampled")
        return row | {
            "posterior_std": float(np.exp(0.5 * logvar).mean()),
            "least_logvar": float(logvar.min()),
            "kl_rate": diagnostics.kl_rate(mu, logvar),
            "sampled_affine_margin": on_draws.margin,
            "sampled_affine_population_bound": on_draws.population_bound,
        }

    def _head(self, z: np.ndarray) -> AffineHead:
        fitted, stopped, _ = self._parts
        return affine_head(z[fitted], self._teacher[fitted], z[stopped], self._teacher[stopped])

    def _certificate(self, logits: np.ndarray, rows: Any, view: View) -> Certificate:
        return certify(Pairs.from_logits(self._teacher[rows], logits[rows], split="guard", view=view))

    def _given(self, name: str, rows: Any) -> np.ndarray | None:
        if rows is None:
            return None
        found = _array(name, rows)
        if len(found) != len(self._chosen):
            raise ConfigFault(
                f"{name} has {len(found)} rows, wanted {len(self._chosen)}",
                "give the codes of `monitor.images`, in their order",
                where="Monitor",
            )
        return found.reshape(len(found), -1)

    def _forecast(self, variance: float) -> forecast.Forecast:
        x = _array("guard_images", self._images).reshape(len(self._chosen), -1)
        return forecast.of_rows(x, Gaussian(variance=variance), min(x.shape))

    def _tell(self, found: Any) -> None:
        """Each finding once, as long as it lasts."""
        now = _told(found)
        for one in found:
            if (one.severity, one.quantity) not in self._seen:
                level = {"note": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}[one.severity]
                logger.log(level, "step %d: %s", self._steps, one)
        self._seen = now


def _told(found: Iterable[Finding]) -> set[tuple[str, str]]:
    return {(one.severity, one.quantity) for one in found}


def _array(name: str, rows: Any) -> np.ndarray:
    """Rows of numbers, float64, on the host."""
    try:
        found = rows.detach().cpu().double().numpy() if isinstance(rows, Tensor) else np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigFault(
            f"{name} must be numbers, found {type(rows).__name__}: {error}",
            "give an array or a tensor",
            where="Monitor",
        ) from error
    if found.ndim < 2:
        raise ConfigFault(
            f"{name} must have shape (n, ...), got {found.shape}", "give a row per image", where="Monitor"
        )
    return found


def _check_given(images: Any, every: int | None) -> None:
    if not hasattr(images, "shape") or not (hasattr(images, "dtype") or hasattr(images, "to_numpy")):
        raise ConfigFault(
            f"guard_images must be a tensor or an array, found {type(images).__name__}",
            "stack them: torch.stack(list(images)), or torch.stack([one[0] for one in images]) where each is a tuple",
            where="Monitor",
        )
    if every is not None and every < 1:
        raise ConfigFault(f"every must be 1 or more steps, got {every}", "leave it away, or give 1", where="Monitor")


def _check_function(encode: Any) -> None:
    if not callable(encode):
        raise ConfigFault(
            f"step takes a function of images, found {type(encode).__name__}",
            "give the encoder itself, or codes of `monitor.images` to monitor.observe(mu, logvar)",
            where="Monitor.step",
        )


def _check_columns(name: str, found: np.ndarray | None, of: str, wanted: np.ndarray | None) -> None:
    if found is None or wanted is None or found.shape[1] == wanted.shape[1]:
        return
    raise ConfigFault(
        f"{name} has {found.shape[1]} numbers per image, and {of} {wanted.shape[1]}",
        "give a number for each: the logarithm of the variance of each unit, a logit of each class",
        where="Monitor",
    )


def _picked(images: Any, chosen: np.ndarray) -> Any:
    """Some of the images; of a data frame and of a sparse matrix, as of cells, an array."""
    if isinstance(images, Tensor):
        return images[torch.from_numpy(chosen)]
    given = images.to_numpy() if hasattr(images, "to_numpy") else images
    rows = (given.tocsr() if hasattr(given, "tocsr") else given)[chosen]  # not every sparse matrix has rows
    return rows.toarray() if hasattr(rows, "toarray") else rows


def _distributions(given: Any, images: int) -> np.ndarray:
    """Teacher rows, normalised; how far their sums may be off depends on the type that came in, as for `Pairs`."""
    if getattr(given, "ndim", 2) == 1:
        raise ConfigFault(
            f"teacher_rows must have shape (n, K), got {tuple(given.shape)}",
            "give probabilities for each image; of labels, torch.nn.functional.one_hot(labels)",
            where="Monitor",
        )
    rows = _array("teacher_rows", given)
    if len(rows) != images or len(rows) < LEAST_ROWS:
        raise ConfigFault(
            f"{len(rows)} teacher rows and {images} guard images, wanted as many of both and {LEAST_ROWS} at least",
            "give more guard images, and the teacher row of each, in their order",
            where="Monitor",
        )
    if getattr(given, "dtype", None) == torch.bfloat16:  # numpy has no such type
        given = rows
    typed = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    typed = typed if typed.dtype.kind == "f" else rows  # one-hot labels are whole numbers
    try:
        return Pairs.from_logits(typed, np.zeros_like(rows), split="guard").teacher
    except ValueError as error:
        raise ConfigFault(str(error), "give probabilities of shape (n, K)", where="Monitor.teacher_rows") from error
