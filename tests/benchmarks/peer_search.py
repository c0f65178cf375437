"""The digits search as one writes it without this project: a Ray Tune function trainable and Ray's OptunaSearch.

    python tests/benchmarks/peer_search.py --configs 32 --epochs 5

A trial trains the whole chain of a config on three seeds: warm-up, teacher search, no_align, full and rescue. The best
config runs on five fresh seeds, a trial each. Networks, schedules, batches and the number of mixture fits are those
that the project is given beside it. It is spared what the project does on top: guard numbers after every epoch,
certificates and pictures per mode, heads fitted afterwards, rows, checkpoints, MLflow. It keeps nothing, so it shares
nothing and cannot resume; a PSNR constraint becomes a penalty, since OptunaSearch has none. Tune starts a process per
trial, as it does by default; `--reuse` makes it keep them.
"""

import argparse
import itertools
import json
import shutil
import tempfile
import time

import numpy as np
import ray
import torch
from optuna.samplers import TPESampler
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

CLASSES, LATENT, WIDTH, BATCH = 10, 16, 256, 128
SEEDS, FRESH = (100, 101, 102), (200, 201, 202, 203, 204)
WHITENING, COVARIANCE, REGULARISER = (0, 4, 8, 12), ("diag", "tied", "spherical"), (1e-4, 1e-3, 1e-2)
INITIALISATIONS = 3
TEMPERATURE, SMOOTHING = (1.0, 2.0, 4.0), 0.02
WARM_UP_ALPHA, VARIANCE = 0.05, 0.5
PSNR_DROP, PENALTY = 1.5, 10.0  # dB that alignment may cost, and nats per dB beyond


class Vae(nn.Module):
    """The digits network: two hidden layers each way, and a linear head on z."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.mu, self.logvar = nn.Linear(WIDTH, LATENT), nn.Linear(WIDTH, LATENT)
        self.decoder = nn.Sequential(
            *(nn.Linear(LATENT, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 64))
        )
        self.head = nn.Linear(LATENT, CLASSES)

    def encode(self, x):
        hidden = self.body(x)
        return self.mu(hidden), self.logvar(hidden).clamp(-12, 6)


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """1,293 train and 144 guard rows; 360 are held out, as in the project."""
    images = torch.from_numpy(load_digits(return_X_y=True)[0] / 16).float()
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))[360:]
    return images[order[144:]], images[order[:144]]


def train(vae: Vae, x, teacher, alpha: float, lambda_ts: float, epochs: int) -> Vae:
    """One mode: L_rec + alpha_kl L_KL, with a teacher also lambda_ts L_TS + L_bal."""
    batches = DataLoader(TensorDataset(x, teacher), BATCH, shuffle=True, drop_last=True)
    optimiser = torch.optim.Adam(vae.parameters(), lr=1e-3)
    for _ in range(epochs):
        for images, rows in batches:
            mu, logvar = vae.encode(images)
            z = mu + torch.randn_like(mu) * (logvar / 2).exp()
            squares = (torch.sigmoid(vae.decoder(z)) - images).square().sum() / (2 * VARIANCE * len(images))
            loss = squares + alpha * 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum() / len(images)
            if rows.shape[1] == CLASSES:
                logits = vae.head(z)
                mean = logits.softmax(dim=1).mean(dim=0)
                loss = loss + (mean * mean.log()).sum()
                loss = loss + lambda_ts * functional.kl_div(logits.log_softmax(dim=1), rows, reduction="batchmean")
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(vae.parameters(), 5.0)
            optimiser.step()
    return vae


def copy(vae: Vae) -> Vae:
    """The same weights to go on from."""
    other = Vae()
    other.load_state_dict(vae.state_dict())
    return other


@torch.no_grad()
def teacher(vae: Vae, train_x, guard_x, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """108 fits on the features; the best of three is read at three temperatures; the most informative on guard rows."""
    features, held = vae.encode(train_x)[0].double().numpy(), vae.encode(guard_x)[0].double().numpy()
    best, found = -np.inf, None
    for size, covariance, regulariser in itertools.product(WHITENING, COVARIANCE, REGULARISER):
        basis = PCA(size, whiten=True).fit(features) if size else None
        points, held_points = (features, held) if basis is None else (basis.transform(features), basis.transform(held))
        mixture = GaussianMixture(
            CLASSES, covariance_type=covariance, reg_covar=regulariser, n_init=INITIALISATIONS, random_state=seed
        ).fit(points)
        posteriors = mixture.predict_proba(points), mixture.predict_proba(held_points)
        for temperature in TEMPERATURE:
            rows, held_rows = (_softer(posterior, temperature) for posterior in posteriors)
            if (info := information(held_rows)) > best:
                best, found = info, (torch.from_numpy(rows).float(), held_rows)
    if found is None:
        raise ValueError("no candidate has finite information: the warm-up diverged")
    return found


def _softer(posterior: np.ndarray, temperature: float) -> np.ndarray:
    powered = posterior ** (1 / temperature)
    return (1 - SMOOTHING) * powered / powered.sum(axis=1, keepdims=True) + SMOOTHING / CLASSES


def information(rows: np.ndarray) -> float:
    """I_T, nats."""
    return divergence(rows, np.log(rows.mean(axis=0)))


def divergence(rows: np.ndarray, log_student: np.ndarray) -> float:
    """Mean KL of rows, which smoothing keeps positive, to a student, nats."""
    return float((rows * (np.log(rows) - log_student)).sum(axis=1).mean())


@torch.no_grad()
def margin_and_psnr(vae: Vae, x, rows: np.ndarray) -> tuple[float, float]:
    """I_T - L_TS in nats and PSNR in dB, on guard rows."""
    mu = vae.encode(x)[0]
    log_student = vae.head(mu).double().log_softmax(dim=1).numpy()
    error = float((torch.sigmoid(vae.decoder(mu)) - x).square().mean())
    return information(rows) - divergence(rows, log_student), -10 * np.log10(error)


def chain(config: dict, seed: int) -> tuple[float, float]:
    """All modes of one seed: margin of full, and what its PSNR lost against no_align."""
    torch.manual_seed(seed)
    train_x, guard_x = digits()
    alpha, lambda_ts, epochs = config["alpha_kl"], config["lambda_ts"], config["epochs"]
    warm = train(Vae(), train_x, torch.empty(len(train_x), 0), WARM_UP_ALPHA, 0.0, epochs)
    rows, guard_rows = teacher(warm, train_x, guard_x, seed)
    ended = train(copy(warm), train_x, rows, alpha, 0.0, epochs)
    full = train(copy(warm), train_x, rows, alpha, lambda_ts, epochs)
    rescued = train(copy(ended), train_x, rows, alpha, lambda_ts, epochs)
    judged = [margin_and_psnr(vae, guard_x, guard_rows) for vae in (full, ended, rescued)]
    return judged[0][0], judged[1][1] - judged[0][1]


def trial(config: dict) -> None:
    """One config: the mean over its seeds, with a penalty for lost PSNR."""
    margins, drops = zip(*(chain(config, seed) for seed in config["seeds"]), strict=True)
    margin, drop = float(np.mean(margins)), float(np.mean(drops))
    tune.report({"score": margin - PENALTY * max(0.0, drop - PSNR_DROP), "margin": margin, "psnr_drop": drop})


def search(configs: int, epochs: int, scratch: str, *, reuse: bool) -> tune.ResultGrid:
    """As many configs as asked for, one trial per core."""
    space = {"alpha_kl": tune.loguniform(0.005, 0.5), "lambda_ts": tune.loguniform(0.3, 30.0)}
    proposer = OptunaSearch(metric="score", mode="max", sampler=TPESampler(seed=0))
    settings = tune.TuneConfig(search_alg=proposer, num_samples=configs, reuse_actors=reuse)
    return run({**space, "epochs": epochs, "seeds": list(SEEDS)}, settings, f"{scratch}/search")


def confirmation(config: dict, scratch: str, *, reuse: bool) -> tune.ResultGrid:
    """A config on fresh seeds, one trial each."""
    seeds = tune.grid_search([[seed] for seed in FRESH])
    return run({**config, "seeds": seeds}, tune.TuneConfig(reuse_actors=reuse), f"{scratch}/confirmation")


def run(space: dict, settings: tune.TuneConfig, folder: str) -> tune.ResultGrid:
    """One call of Tune."""
    quiet = tune.RunConfig(storage_path=folder, verbose=1)
    return tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}), param_space=space, tune_config=settings, run_config=quiet
    ).fit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--reuse", action="store_true", help="keep processes between trials")
    given = parser.parse_args()
    scratch = tempfile.mkdtemp(prefix="peer-")
    try:
        ray.init(
            address="local",
            num_cpus=given.slots,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=f"{scratch}/ray",
        )
        began = time.monotonic()
        found = search(given.configs, given.epochs, scratch, reuse=given.reuse)
        best = found.get_best_result(metric="score", mode="max")
        fresh = confirmation(best.config or {}, scratch, reuse=given.reuse)
        numbers = best.metrics or {}
        told = {
            "seconds": time.monotonic() - began,
            "failed": found.num_errors + fresh.num_errors,
            "confirmed": float(np.mean([(one.metrics or {})["margin"] for one in fresh])),
            **{name: numbers[name] for name in ("score", "margin", "psnr_drop")},
        }
        print(json.dumps(told))
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
