"""The gate of the certify split: opened for the configs that a study declared, and for no other.

Search sees the guard split. A bound on certify rows holds for a student that was fixed before they were looked at, so a
study names beforehand which configs may look, and each bound uses delta divided by their number.
"""

from certvae.errors import StoreFault
from certvae.store.store import Store

GATE = "gate"  # the kind of its documents


def open_certify(store: Store, study: str, configs: tuple[str, ...]) -> int:
    """Declares the configs of a study that are judged on the certify split; returns the looks to pay for.

    The first declaration stands. Repeating it is how a run resumes. Where a declaration was lost or damaged, the rows
    that it let through still say who looked.

    Raises:
        StoreFault: when the study declared other configs before.
    """
    declared = sorted(set(configs))
    earlier = store.get_document(GATE, study)
    if earlier is not None and earlier["configs"] != declared:
        raise _opened_before(store, study, earlier["configs"], declared)
    if earlier is None:
        looked = {row["config"] for row in store.rows(study) if row["split"] == "certify"}
        if not looked <= set(declared):
            raise _opened_before(store, study, sorted(looked), declared)
        store.put_document(GATE, study, {"configs": declared})
    store.expect(study, {GATE: [study]})
    return len(declared)


def opened_for(store: Store, study: str) -> list[str]:
    """The configs of a study that were declared; none while its gate is closed."""
    declared = store.get_document(GATE, study)
    return [] if declared is None else declared["configs"]


def _opened_before(store: Store, study: str, earlier: list[str], declared: list[str]) -> StoreFault:
    return StoreFault(
        f"the certify split of study {study!r} was opened for {_named(earlier)}, "
        f"and now {_named(declared)} wants to see it",
        "keep the spec, or start a study of its own with --study NAME",
        where=str(store.path),
        cause="a second choice on the rows that certify the first one would spoil both bounds",
    )


def _named(configs: list[str]) -> str:
    shown = ", ".join(config[:12] for config in configs[:3])
    return f"config {shown}" if len(configs) == 1 else f"{len(configs)} configs ({shown}, ...)"
