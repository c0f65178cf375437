"""Logs a bundle to MLflow: as files of the run that it certifies, and as a model.

Both belong to the view: they go with the database, and are made again like the runs.
"""

import tempfile
from collections.abc import Callable, Mapping
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
from certvae.verifier.folder import FORMAT, read

REQUIREMENTS = ["certvae[verify]"]
"""Named, because MLflow would otherwise import the model in a process of its own to find out."""


NETWORK, SHOWN = "certvae.network", "certvae.shown"
"""Tags of a model: the run that it belongs to; the format and what that run says: a bundle of others is replaced."""


def log(store: Store, row: Mapping[str, Any], write: Callable[[Path], object]) -> tuple[str, str]:
    """Logs a bundle with the run of its network; returns the tracking URI, and what `load_model` takes there.

    Args:
        write: makes the bundle, as a new folder. It is not called where MLflow holds it already.

    Raises:
        BundleFault: there is no such bundle.
        Outage: MLflow does not take it.
    """
    ledger = Ledger(store, row["study"])
    synced = ledger.sync(store.rows(row["study"]))
    if synced.behind:
        raise Outage(synced.reason)
    with ledger.writing() as tracker:
        run = tracker.find(cell_key(row["cell"], row["mode"]))
        if run is None:
            raise Outage("the run of this network is not shown")
        model = _there(tracker, run)
    if model is None:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / served.BUNDLE)  # and no lock is held meanwhile
            with ledger.writing() as tracker:
                model = _logged(tracker, run, Path(folder) / served.BUNDLE)
    return _uri(store), f"models:/{model}"


def _uri(store: Store) -> str:
    """Where MLflow is, as a reader may be told."""
    uri = chosen() or spelled(database(store))
    return uri if sqlite_file(uri) else without_user(uri)


def _there(tracker: Tracker, run: Shown) -> str | None:
    """The model of this run as it stands; those of what it said before are taken away."""
    found = None
    for model in tracker.client.search_logged_models([tracker.experiment], f"tags.`{NETWORK}` = '{run.key}'"):
        whole = model.status == LoggedModelStatus.READY and model.source_run_id == run.run_id
        if whole and model.tags.get(SHOWN) == _said(run):
            found = model.model_id
        else:
            tracker.client.delete_logged_model(model.model_id)
    return found


def _said(run: Shown) -> str:
    return f"{FORMAT} {run.digest}"


def _logged(tracker: Tracker, run: Shown, bundle: Path) -> str:
    client, name = tracker.client, read(bundle)[0]
    client.log_artifacts(run.run_id, str(bundle), served.BUNDLE)
    tags = {"certvae.bundle": name, NETWORK: run.key, SHOWN: _said(run)}
    model = client.create_logged_model(tracker.experiment, f"bundle-{name[:12]}", run.run_id, tags=tags)
    target = bundle.with_name("model")
    given = {"python_model": served.__file__, "artifacts": {served.BUNDLE: str(bundle)}}
    mlflow.pyfunc.save_model(target, **given, pip_requirements=REQUIREMENTS)
    client.log_model_artifacts(model.model_id, str(target))
    client.finalize_logged_model(model.model_id, "READY")
    return model.model_id
