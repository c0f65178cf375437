"""Looking after a store from the command line.

python -m certvae verify|repair|status|gc|ledger|ui|doctor --store DIR          python -m certvae selftest --kills 200
"""

import sys
from pathlib import Path

import tyro

from certvae.cluster import doctor as health
from certvae.errors import Fault
from certvae.store import audit
from certvae.store.layout import STORE, no_store
from certvae.store.selftest import selftest as run_selftest
from certvae.store.store import Store
from certvae.tracking import ui as pages
from certvae.tracking.ledger import Ledger, rebuild
from certvae.tracking.ledger import pages as pages_of
from certvae.tracking.uri import HTTP, chosen, database, spelled


def verify(store: Path) -> int:
    """Read and verify every byte; change nothing.

    Exit code is a sum: 1 corrupt, incomplete or surplus entry; 2 wrong owner or mode, or unknown schema; 4 unreadable.

    Args:
        store: Folder of the store.
    """
    return _told(audit.verify(store.resolve()))


def repair(store: Path) -> int:
    """Move corrupt entries to quarantine and verify again; the next run computes them again.

    Args:
        store: Folder of the store.
    """
    return _told(audit.repair(store.resolve()))


def status(store: Path) -> int:
    """Say what the store holds.

    Args:
        store: Folder of the store.
    """
    print(audit.status(store.resolve()))
    return 0


def gc(store: Path, remove: bool = False, older_than_days: float = 7.0) -> int:
    """List objects that no row and no plan refers to.

    Args:
        store: Folder of the store.
        remove: Remove them as well.
        older_than_days: Younger ones may belong to a sweep that runs now, and stay.
    """
    paths = audit.gc(store.resolve(), (), dry_run=not remove, older_than_days=older_than_days)
    for path in paths:
        print(path)
    print(f"{len(paths)} {'removed' if remove else 'could be removed with --remove'}")
    return 0


def ledger(store: Path, study: str | None = None) -> int:
    """Make the MLflow runs of a store anew, from its rows and objects alone; the same store gives the same runs.

    The database in the store, views/mlflow.db, is thrown away and written again; it may be missing or broken. Where
    one study is asked for, or MLFLOW_TRACKING_URI is set, nothing is thrown away: runs are compared and mended.

    Exit code 1: MLflow did not take all of it, and the same command again goes on from there.

    Args:
        store: Folder of the store.
        study: Only this study.
    """
    opened = _opened(store)
    done = rebuild(opened, study)
    print(f"{done}\nSee it: {Ledger(opened, study or '').ui_command}")
    return 1 if done.behind else 0


def ui(store: Path = Path("certvae-store"), port: int = pages.PORT) -> int:
    """Open MLflow's UI on the runs of a store, for this machine alone; Ctrl-C ends it.

    It opens on the networks of a study, sorted by margin. Studies that are not shown are written from the store's rows
    first. With MLFLOW_TRACKING_URI set to a database, its runs are shown.

    Args:
        store: Folder of the store.
        port: It listens on 127.0.0.1 and this port.
    """
    opened = _opened(store)
    uri = chosen()
    remote = uri is not None and uri.startswith(HTTP)
    if not remote:
        pages.check_port(port)
    for study, page in pages_of(opened, port).items():
        print(f"Open {page} for {study}")
    if remote:
        return 0
    print("Ctrl-C ends it.", flush=True)
    return pages.serve(uri or spelled(database(opened)), port)


def selftest(kills: int = 200, seed: int = 0, locks: bool = True) -> int:
    """Kill workers of a store made for this, at every durable I/O step and at random, and compare the results.

    Args:
        kills: How many random kills.
        seed: Of the random kills.
        locks: Without them workers may do work twice, and must give the same results.
    """
    tally = run_selftest(kills, seed, locks=locks)
    print(f"seed {seed}: {tally}")
    return 1 if tally.violations else 0


def doctor(store: Path = Path("certvae-store"), address: str | None = None, needed_gb: float = 10.0) -> int:
    """Say whether this machine, or every node of a cluster, is fit for a long run; exit code 1 if not.

    Args:
        store: Folder of the store; it need not be there yet.
        address: Head of a cluster, as host:port.
        needed_gb: Free space wanted, in gigabytes.
    """
    findings = health.examine(store, needed_gb) if address is None else health.cluster(address, store, needed_gb)
    print(*findings, sep="\n")
    return health.verdict(findings)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    commands = {
        "verify": verify,
        "repair": repair,
        "status": status,
        "gc": gc,
        "ledger": ledger,
        "ui": ui,
        "selftest": selftest,
        "doctor": doctor,
    }
    try:
        return tyro.extras.subcommand_cli_from_dict(commands, prog="python -m certvae", args=arguments)
    except Fault as fault:
        print(fault, file=sys.stderr)
        return fault.exit_code


def _opened(store: Path) -> Store:
    root = store.resolve()
    if not (root / STORE).exists():
        raise no_store(root)  # opening it would make one
    return Store(root)


def _told(report: audit.Report) -> int:
    print(report)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
