"""Tracking URIs: which one is meant, how the path of a SQLite file is spelt in one, and which are refused. Light."""

import os
import shlex
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from certvae.errors import ConfigFault
from certvae.store.store import Store

VARIABLE = "MLFLOW_TRACKING_URI"
HTTP = ("http:", "https:")
SQL = ("sqlite", "postgresql", "mysql", "mssql")
DATABRICKS = "databricks"


def chosen(uri: str | None = None) -> str | None:
    """The tracking URI of a caller or else of the environment; None for the database that lies in the store.

    Raises:
        ConfigFault: it is a folder, which MLflow 3 no longer keeps runs in, or a workspace of Databricks.
    """
    uri = uri or os.environ.get(VARIABLE)
    scheme = urlsplit(uri).scheme if uri else HTTP[0]
    if DATABRICKS in (uri, scheme):
        raise _refused(f"a workspace of Databricks, {uri}", "there a study's name is no name of an experiment")
    if scheme in ("", "file"):
        cause = "older versions of MLflow kept runs in files, and a profile or a script still says so"
        raise _refused(f"the folder {uri}", cause)
    return uri or None


def _refused(found: str, cause: str) -> ConfigFault:
    return ConfigFault(
        f"{VARIABLE} must be a database or a server, got {found}",
        f"unset {VARIABLE}: runs then go to a database in the store; "
        f"or keep them elsewhere with {VARIABLE}=sqlite:////absolute/path/mlflow.db",
        where=VARIABLE,
        cause=cause,
    )


def database(store: Store) -> Path:
    """The file that the runs of a store are kept in by default.

    Raises:
        ConfigFault: a folder lies there.
    """
    path = store.path.absolute() / "views" / "mlflow.db"
    if path.is_dir():
        raise ConfigFault(
            "the database of MLflow must be a file, and a folder lies in its place",
            f"remove it (`rm -r {shlex.quote(str(path))}`): it is made anew from the store; mount no file there",
            where=str(path),
        )
    return path


def sqlite_file(uri: str) -> Path | None:
    """The file behind a tracking URI, if it is SQLite."""
    from sqlalchemy.engine import make_url  # noqa: PLC0415  (a third of a second, and most runs need no URI)

    return Path(make_url(uri).database or "").absolute() if uri.startswith("sqlite") else None


def spelled(path: Path) -> str:
    """The URI of a SQLite file, whatever signs its path holds.

    With its driver named: of a bare `sqlite:///` MLflow takes the rest for a folder to be made, signs not decoded.
    """
    from sqlalchemy.engine import URL  # noqa: PLC0415

    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string(hide_password=False)


def is_sql(uri: str) -> bool:
    """True where MLflow writes to a database itself, and files of runs lie where we say."""
    return uri.partition(":")[0].partition("+")[0] in SQL


def without_user(uri: str) -> str:
    """The URI without a user and a password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
