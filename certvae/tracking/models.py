"""A bundle in MLflow: files of the run that it certifies, and a logged model, by the public client alone.

Both belong to the view: they go with the database, and the same command brings them back.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.entities import LoggedModelStatus

from certvae.store.store import Store
from certvae.tracking import served
from certvae.tracking.client import Outage, Shown, Tracker
from certvae.tracking.ledger import Ledger
from certvae.tracking.runs import cell_key
from certvae.tracking.uri import chosen, database, spelled, sqlite_file, without_user

REQUIREMENTS = ["certvae[verify]"]
"""Named, because MLflow would otherwise import the model in a process of its own to find out."""


def log(store: Store, row: Mapping[str, Any], bundle: Path, name: str) -> tuple[str, str]:
    """Logs a bundle with the run of its network; returns the tracking URI, and what `load_model` takes there.

    Args:
        name: SHA-256 of the bundle. One that is there already is not logged again.

    Raises:
        Outage: MLflow does not take it; the bundle is what it was.
    """
    ledger = Ledger(store, row["study"])
    synced = ledger.sync(store.rows(row["study"]))
    if synced.behind:
        raise Outage(synced.reason)
    with ledger.writing() as tracker:
        run = tracker.find(cell_key(row["cell"], row["mode"]))
        if run is None:
            raise Outage("the run of this network is not shown")
        model = _there(tracker, name) or _logged(tracker, run, bundle, name)
        return _uri(store), f"models:/{model}"


def _uri(store: Store) -> str:
    """Where MLflow is, as a reader may be told."""
    uri = chosen() or spelled(database(store))
    return uri if sqlite_file(uri) else without_user(uri)


def _there(tracker: Tracker, name: str) -> str | None:
    found = tracker.client.search_logged_models([tracker.experiment], f"name = '{_named(name)}'")
    return next((model.model_id for model in found if model.status == LoggedModelStatus.READY), None)


def _logged(tracker: Tracker, run: Shown, bundle: Path, name: str) -> str:
    client = tracker.client
    client.log_artifacts(run.run_id, str(bundle), served.BUNDLE)
    model = client.create_logged_model(tracker.experiment, _named(name), run.run_id, tags={"certvae.bundle": name})
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        given = {"python_model": served.__file__, "artifacts": {served.BUNDLE: str(bundle)}}
        mlflow.pyfunc.save_model(target, **given, pip_requirements=REQUIREMENTS)
        client.log_model_artifacts(model.model_id, str(target))
    client.finalize_logged_model(model.model_id, "READY")
    return model.model_id


def _named(name: str) -> str:
    return f"bundle-{name[:12]}"
