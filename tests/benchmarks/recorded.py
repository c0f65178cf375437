"""A search on digits whose every config ran to its end on five seeds: curves, and the truth and noise they come to.

    python -m tests.benchmarks.recorded STORE STUDY "COMMAND" > tests/benchmarks/recorded/digits_curves.json

The file has a line per config: what was drawn, the guard margin (1e-4 nats) and guard PSNR (1e-2 dB) of `full` and
the guard PSNR of `no_align` after every epoch, for every seed, as whole numbers; and the median seconds of each stage.

As a problem for samplers the truth is a Gaussian process through the means of the five seeds, which predicts a config
that it has not seen better than any neighbour of it does. A search has three of the five seeds: what a seed adds to all
configs alike is shared by its configs, as in a real search, and what it adds to one config is that of one of the five
nearest recorded ones.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from optuna.distributions import FloatDistribution
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

FILE = Path(__file__).parent / "recorded" / "digits_curves.json"
MARGIN, PSNR = 1e-4, 1e-2
"""Nats and dB of one unit of the file."""
NEAREST = 5
SEARCHED = 3  # seeds of a search
STAGES = ("warm_up", "teacher", "no_align", "aligned", "judge")


@dataclass(frozen=True)
class Curves:
    """The recorded search.

    points    (configs, dimensions), in the unit cube: each parameter in log scale between its ends
    margin    (configs, seeds, epochs), guard margin of full, nats
    psnr      (configs, seeds, epochs), guard PSNR of full, dB
    reference (configs, seeds, epochs), guard PSNR of no_align, dB
    seconds   stage -> median over its executions
    """

    points: np.ndarray
    margin: np.ndarray
    psnr: np.ndarray
    reference: np.ndarray
    seconds: dict[str, float]

    @classmethod
    def read(cls, path: Path = FILE) -> "Curves":
        """The file that is kept beside this one."""
        body = json.loads(path.read_text())
        configs, low, high = body["configs"], *np.log(np.array([*body["ranges"].values()], float)).T
        drawn = np.log(np.array([[config["drawn"][name] for name in body["ranges"]] for config in configs]))
        whole = {name: np.array([config[name] for config in configs]) for name in ("margin", "psnr", "reference")}
        margin, psnr, reference = whole["margin"] * MARGIN, whole["psnr"] * PSNR, whole["reference"] * PSNR
        return cls((drawn - low) / (high - low), margin, psnr, reference, body["seconds"])

    @property
    def drop(self) -> np.ndarray:
        """(configs, seeds), dB that full lost at its end."""
        return self.reference[:, :, -1] - self.psnr[:, :, -1]

    @property
    def ended(self) -> np.ndarray:
        """(2, configs, seeds): drop and margin of the finished networks, as a problem has its noise."""
        return np.array([self.drop, self.margin[:, :, -1]])

    @cached_property
    def shared(self) -> np.ndarray:
        """(2, seeds), what a seed adds to every config alike: its residual, averaged over configs."""
        return (self.ended - self.ended.mean(axis=2, keepdims=True)).mean(axis=1)

    @cached_property
    def own(self) -> np.ndarray:
        """(2, configs, seeds), what a seed adds to one config, scaled to the variance that five seeds show."""
        seeds = self.drop.shape[1]
        rest = self.ended - self.ended.mean(axis=2, keepdims=True) - self.shared[:, None, :]
        return rest * np.sqrt(seeds / (seeds - 1))

    def truth(self, values: np.ndarray) -> Callable[[np.ndarray], float]:
        """A smooth function of the cube through means over seeds, (configs,)."""
        kernel = ConstantKernel() * Matern(np.full(self.points.shape[1], 0.5), nu=2.5) + WhiteKernel(0.01, (1e-5, 1))
        fitted = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0)
        fitted.fit(self.points, values)
        return lambda point: float(fitted.predict(np.asarray(point)[None])[0])

    def noises(self, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
        """Begins a search with three of the seeds; see `samplers.Problem`."""
        seeds = rng.permutation(self.drop.shape[1])[:SEARCHED]

        def noise(point: np.ndarray) -> np.ndarray:
            near = np.argsort(((self.points - point) ** 2).sum(axis=1))[:NEAREST]
            places = rng.integers(NEAREST * self.drop.shape[1], size=SEARCHED)
            return (self.shared[:, seeds] + self.own[:, near].reshape(2, -1)[:, places]).T

        return noise


def extracted(path: Path, study: str, command: str) -> str:
    """What is kept of the search of a store, as the text of the file."""
    from certvae import installed  # noqa: PLC0415 - who reads the file needs no store
    from certvae.engine.search import proposals  # noqa: PLC0415
    from certvae.store.store import Store  # noqa: PLC0415

    store, found = Store(path), proposals(Store(path), study)
    rows = {(row["config"], row["seed"], row["mode"]): row for row in store.rows(study) if row["split"] == "guard"}
    configs = [body["config"] for _, body in sorted(store.documents(f"proposals-{study}").items())]
    rule = store.get_document("search", study) or {}
    weights = cast("dict[str, FloatDistribution]", found[0].distributions)
    ranges = {name: (kind.low, kind.high) for name, kind in weights.items()}
    head = {
        "command": command,
        "made": f"{date.today()}",
        "versions": {name: installed.version(name) for name in ("certvae", "torch", "numpy", "scikit-learn")},
        "ranges": ranges,
        "seeds": rule["seeds"],
        "seconds": {stage: round(float(np.median(store.seconds(stage))), 3) for stage in STAGES},
    }
    lines = ",\n".join(
        json.dumps(_config(one.params, store, rows, config, rule["seeds"]), separators=(",", ":"))
        for one, config in zip(found, configs, strict=True)
    )
    return json.dumps(head, indent=1)[:-2] + f',\n "configs": [\n{lines}\n]}}'


def _config(drawn: dict[str, Any], store: Any, rows: dict[Any, Any], config: str, seeds: list[int]) -> dict[str, Any]:
    def curve(mode: str, name: str, unit: float) -> list[list[int]]:
        found = [store.artifact(rows[config, seed, mode]["key_trained"]).facts["curve"] for seed in seeds]
        return [[round(point[name] / unit) for point in one] for one in found]

    return {
        "drawn": {name: float(f"{value:.6g}") for name, value in drawn.items()},
        "margin": curve("full", "guard_margin", MARGIN),
        "psnr": curve("full", "guard_psnr_01", PSNR),
        "reference": curve("no_align", "guard_psnr_01", PSNR),
    }


if __name__ == "__main__":
    print(extracted(Path(sys.argv[1]), *sys.argv[2:4]))
