"""Runs a study on a cluster, from a laptop.

    certvae cluster run cluster.yaml sweeps/tiny_fixed_q.py --data digits
    certvae cluster fetch cluster.yaml certvae-store

`run` starts the study on the head, prints what it prints, and brings results and MLflow runs back when it has ended. It
goes on when the laptop is closed: the same command watches it again, or resumes it. `fetch` brings back what there is.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ray.autoscaler import sdk
from ray.autoscaler._private.cli_logger import cli_logger

from certvae.canonical import digest
from certvae.errors import RayFault
from certvae.store.store import Store
from certvae.terminal import STORE, number_of, option
from certvae.tracking.ledger import Ledger

NODE = "~/certvae/certvae/cluster/node.sh"
TRUTH = ("STORE.json", "plan", "obj", "rows")  # the rest of a store is scratch, or made again from these
NAME_DIGITS = 12

cli_logger.configure(verbosity=0, log_style="record", color_mode="false")  # Ray's own words on a command line of ours


def run(config: str, study: str, arguments: Sequence[str]) -> int:
    """Starts or watches a study on the head; returns its exit code.

    Args:
        config: the cluster file that `ray up` was given.
        study: the script, as it is named in this repository.
        arguments: its command line.

    Raises:
        RayFault: the head is not reached, or the connection was lost.
    """
    name = digest([study, *arguments])[:NAME_DIGITS]
    watched = _on_head(config, "study", name, study, *arguments)
    code = _on_head(config, "code", name)
    ended = re.search(r"exit=(\d+)", code or "")
    if ended is None:
        raise _lost(config, watched is None)
    print(fetch(config, option(arguments, "--store") or str(STORE)))
    return int(ended[1])


def fetch(config: str, store: str) -> str:
    """Brings a store from the head to a folder of its name here, and its runs into MLflow.

    Returns:
        What was brought, and the command that shows it.
    """
    here = Path(PurePosixPath(store).name)
    here.mkdir(mode=0o700, exist_ok=True)
    there = store if store.startswith(("/", "~")) else f"~/certvae/{store}"
    for part in TRUTH:
        whole = "" if "." in part else "/"
        sdk.rsync(config, source=f"{there}/{part}{whole}", target=f"{here / part}{whole}", down=True)
    brought = Store(here, fingerprint={})
    rows = brought.rows()
    studies = sorted({str(row["study"]) for row in rows})
    ledgers = [Ledger(brought, study) for study in studies]
    told = [str(ledger.sync(rows)) for ledger in ledgers]
    shown = [f"MLflow UI       {ledgers[0].ui_command}"] if ledgers else []
    return "\n".join([f"{number_of(len(rows), 'row')} of {', '.join(studies) or 'no study'} in {here}", *told, *shown])


def _on_head(config: str, *command: str) -> str | None:
    """What a command of a node prints; None when it failed or the connection was lost."""
    captured = command[0] == "code"
    try:
        said = sdk.run_on_cluster(config, cmd=f"{NODE} {shlex.join(command)}", with_output=captured)
    except (Exception, SystemExit):  # Ray's runners raise what click, subprocess and ssh gave them
        return None
    return said.decode() if isinstance(said, bytes) else said or ""


def _lost(config: str, failed: bool) -> RayFault:
    return RayFault(
        "the connection to the head was lost" if failed else "the study on the head was ended",
        "run the same command again: what goes on is watched, what has ended resumes, no result is lost",
        where=config,
    )
