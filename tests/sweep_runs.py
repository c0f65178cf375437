"""A study as a user runs it: a process of its own, with small digits chains."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SMALL = (
    *("--data", "digits", "--limit", "400", "--data.certify-limit", "100"),
    *("--training.epochs", "6", "--warm-up.training.epochs", "6"),
    *("--teacher.initialisations", "1", "--teacher.covariance", "diag", "--teacher.whitening", "0"),
    *("--model.encoder.hidden", "64"),
)


def command(store: Path, *more: str, study: str = "tiny_fixed_q", root: Path = REPOSITORY) -> list[str]:
    """`python sweeps/<study>.py` of a checkout, on a store."""
    return [sys.executable, str(root / "sweeps" / f"{study}.py"), "--store", str(store), *SMALL, *more]


def start(store: Path, *more: str, study: str = "tiny_fixed_q") -> subprocess.Popen:
    """Starts a run whose end is watched from outside, in a process group of its own."""
    log = (store.parent / f"{store.name}.out").open("a")
    begun = command(store, *more, study=study)
    return subprocess.Popen(begun, cwd=REPOSITORY, stdout=log, stderr=log, start_new_session=True)


def run(
    store: Path, *more: str, study: str = "tiny_fixed_q", root: Path = REPOSITORY, **environment: str
) -> subprocess.CompletedProcess:
    """Runs the program of a checkout to the end."""
    return subprocess.run(
        command(store, *more, study=study, root=root),
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def table(store: Path, study: str = "tiny_fixed_q-digits") -> bytes:
    """The final table's bytes."""
    return (store / "views" / study / "table.csv").read_bytes()
