"""What all tests share: settings of the process, shapes that are checked at run time, and small fixtures."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "token")  # read once, when Ray is imported, which a test may do before the pool
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from beartype import BeartypeConf, beartype
from hypothesis import settings
from jaxtyping import install_import_hook


def pytest_configure(config: pytest.Config) -> None:
    """Tests compute on the CPU, where their numbers were made, also beside a GPU; those marked `gpu` are asked for.

    These compute as workers do, from the first on: torch notes at the first product of a process whether cuBLAS had its
    variable, and refuses all later ones in deterministic mode if it had not.
    """
    asked = config.option.markexpr
    if "gpu" not in asked or "not gpu" in asked:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    from certvae.training import environment  # noqa: PLC0415 - torch, which many tests do not need

    environment.settle()


SLOW_SECONDS = 3600
"""Seconds that a slow test may take; `timeout` in pyproject.toml is for all others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that hangs fails by itself, and does not take the suite with it."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


settings.register_profile("any machine", deadline=None)  # how long a test takes says nothing of what it tests
settings.load_profile("any machine")

SHAPED = (
    *("certificate", "simplex", "equilibrium", "quality"),
    *("models", "training.objective", "teachers.searching", "evaluation.diagnostics", "training.baselines"),
)


def checked(function):
    """Beartype, with whole numbers accepted where a float is declared, as in the language itself."""
    return beartype(conf=BeartypeConf(is_pep484_tower=True))(function)


install_import_hook([f"certvae.{name}" for name in SHAPED] + ["analysis"], "tests.conftest.checked")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """216 train, 24 guard and 60 certify rows of scikit-learn's digits; nothing may change them."""
    from tests.small_cells import small_digits  # noqa: PLC0415 - torch, which many tests do not need

    return small_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def dataset(digits):
    """The same, where a test would run on any data set."""
    return digits


@pytest.fixture
def store(tmp_path):
    """A new store."""
    from certvae.store.store import Store  # noqa: PLC0415

    return Store(tmp_path / "store")
