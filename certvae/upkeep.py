"""The commands of `certvae store`, which look after a store."""

from pathlib import Path

from certvae.errors import ExitCode
from certvae.terminal import STORE, number_of

# ruff: noqa: PLC0415 - `certvae certify` is installed without what a store needs


def verify(store: Path = STORE) -> int:
    """Read and verify every byte; change nothing.

    Exit code is a sum: 1 corrupt, incomplete or surplus entry; 2 wrong owner or mode, or unknown schema; 4 unreadable;
    8 gone, though its study lists it.

    Args:
        store: Folder of the store.
    """
    from certvae.store import audit

    print(found := audit.verify(store.resolve()))
    return found.exit_code


def repair(store: Path = STORE) -> int:
    """Move corrupt entries to quarantine and verify again; the next run computes them again.

    Exit code is 5 while something is left that cannot be moved: what is gone, unreadable, or not safe.

    Args:
        store: Folder of the store.
    """
    from certvae.store import audit

    print(found := audit.repair(store.resolve()))
    return ExitCode.REFUSED if found.findings else ExitCode.DONE


def status(store: Path = STORE) -> int:
    """Say what the store holds.

    Args:
        store: Folder of the store.
    """
    from certvae.store import audit

    print(audit.status(store.resolve()))
    return ExitCode.DONE


def gc(store: Path = STORE, remove: bool = False, older_than_days: float = 7.0) -> int:
    """List objects that no row and no plan refers to.

    Args:
        store: Folder of the store.
        remove: Remove them as well.
        older_than_days: Younger ones may belong to a sweep that runs now, and stay; so does the scratch of one.
    """
    from certvae.store import audit

    paths = audit.gc(store.resolve(), dry_run=not remove, older_than_days=older_than_days)
    for path in paths:
        print(path)
    print(f"{len(paths)} {'removed' if remove else 'could be removed with --remove'}")
    return ExitCode.DONE


def compact(store: Path = STORE) -> int:
    """Write the rows of every study by column as well, for pyarrow and DuckDB; the rows stay, and are the truth.

    Bounds on the population are left out: a row holds them as if its claim were the only one. Those that hold together
    stand in the tables of `certvae report`; `certvae.looks.together` gives them in Python.

    Args:
        store: Folder of the store.
    """
    from certvae.looks.view import RESTATED
    from certvae.store import segments
    from certvae.store.layout import VIEWS
    from certvae.store.records import studies
    from certvae.store.store import Store

    disk = Store.existing(store).disk
    for study in studies(disk):
        held, new = segments.compact(disk, study, RESTATED)
        print(f"{number_of(held, 'row')}, {new} of them new, in {disk.root / VIEWS / study / segments.FOLDER}")
    return ExitCode.DONE
