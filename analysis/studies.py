"""Several studies beside each other: two grids of a weight, two data sets. Nothing is averaged over studies.

A seed is paired where both studies trained it under one teacher, on the same data, machine and versions; the difference
is then one of the studies alone. All other networks stand beside each other, each under the name of its study.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from certvae.spec.modes import ordered
from certvae.spec.quantities import BY_NAME

from . import figures
from .captions import caption, subject
from .compare import paired
from .opening import opening, span, strips
from .page import Page, Section
from .parameters import differing, told_apart
from .sections import Material, plot
from .table import Column, Table, clean, columns
from .tables.answers import COUNTS, answer_lines
from .tables.margins import SEEDS
from .views import Refused, View

LETTERS = string.ascii_uppercase
"""Short names of studies, in the order in which they were asked for."""
SIDE = ("head", "left_mean", "left_min", "bound_min", "psnr_01_mean", *COUNTS)
QUANTITIES = ("margin", "psnr_01")
PAIR = ["label", "mode", "seed", "split", "data_digest", "key_teacher", "environment"]
"""What two networks must share to be a pair, besides versions."""
NO_PAIR = "No network has a partner of the same seed, data, teacher, machine and versions: nothing is paired."


@dataclass(frozen=True, eq=False)
class Study:
    """One of the studies: its name, its rows under the view, and what a reader must be warned of."""

    name: str
    material: Material
    warnings: Sequence[str]


def page_of(studies: Sequence[Study], view: View) -> Page:
    """A page with every study's answer, all numbers in one table, and paired differences to the first study.

    Raises:
        Refused: a study that is named twice, or studies whose rows are of different splits.
    """
    _check(studies)
    frames = [study.material.rows for study in studies]
    axis = span(pd.concat(frames), view)
    first = [
        (
            f"{letter}: {study.name}",
            replace(found, strips=strips(rows, answer_lines(study.material.parts, view), view, axis)),
        )
        for letter, study, rows in zip(LETTERS, studies, frames, strict=False)
        for found in (opening(study.material.parts, view, study.material.winner),)
    ]
    names = " and ".join(study.name for study in studies)
    compared, pictures = _compared(studies, view), _pictures(studies, view)
    return Page(
        title=f"{names}, beside each other",
        kicker="; ".join(f"{study.name}: {subject(study.material.rows)}" for study in studies),
        opening=tuple(first),
        warnings=[f"{study.name}: {words}" for study in studies for words in study.warnings],
        sections=[compared, pictures],
        provenance={study.name: caption(study.material.rows, view.tau) for study in studies},
    )


def beside_table(studies: Sequence[Study], view: View) -> Table:
    """One line per mode, and per config where studies have several; the numbers of each study in columns of its own."""
    found = [_lines(study, view) for study in studies]
    keys = pd.concat([lines[["label", "mode"]] for lines in found]).drop_duplicates()
    places = {mode: place for place, mode in enumerate(ordered(keys["mode"]))}
    frame = keys.sort_values("mode", key=lambda modes: modes.map(places), kind="stable", ignore_index=True)
    for letter, lines in zip(LETTERS, found, strict=False):
        renamed = lines.rename(columns={name: f"{name}_{letter}" for name in SIDE})
        frame = frame.merge(renamed, on=["label", "mode"], how="left")
    shown = [
        replace(column, name=f"{column.name}_{letter}", heading=f"{letter}: {column.heading}")
        for column in columns(*SIDE)
        for letter in LETTERS[: len(studies)]
    ]
    label = columns("label") if frame["label"].ne("").any() else ()
    notes = (
        "each number is over the strict-feasible seeds of one study; nothing is pooled over studies",
        *_origins(studies),
    )
    return Table("beside_studies", "Studies beside each other", frame, (*label, *columns("mode"), *shown), notes)


def difference_table(studies: Sequence[Study]) -> Table:
    """Paired differences of every later study to the first, by mode: mean, t interval, sign-flip p."""
    base, *others = studies
    lines = [
        {"contrast": f"{letter} − {LETTERS[0]}", **line}
        for letter, other in zip(LETTERS[1:], others, strict=False)
        for line in _differences(base, other)
    ]
    names = ("contrast", "label", "mode", "of", "mean", "low", "high", "p", "p_smallest", *SEEDS, "n_unpaired")
    frame = pd.DataFrame(lines, columns=list(names))
    notes = (
        "pairs share seed, data, teacher, machine and versions; the interval is a paired t interval; strict-feasible "
        "networks alone",
        "without a partner: networks of the later study that share no pair with the first; n_failed: pairs of which "
        "one has no number, which are in no mean",
        *_origins(studies),
    )
    label = columns("label") if frame["label"].ne("").any() else ()
    shown = (*columns("contrast"), *label, *columns("mode", *names[3:-1]), Column("n_unpaired", "no partner", "count"))
    return Table("differences_of_studies", "Paired differences between studies", frame, shown, notes)


def specs_table(studies: Sequence[Study]) -> Table:
    """The fields of the spec that the studies do not agree on; a field that a study varies has several values."""
    found = differing([study.material.rows for study in studies])
    frame = pd.DataFrame(
        [{"parameter": name, **dict(zip(LETTERS, texts, strict=False))} for name, texts in found.items()],
        columns=["parameter", *LETTERS[: len(studies)]],
    )
    shown = (Column(letter, f"{letter}: {study.name}", "text") for letter, study in zip(LETTERS, studies, strict=False))
    title = "What was asked for differently"
    return Table("asked_of_studies", title, frame, (*columns("parameter"), *shown), ())


def _origins(studies: Sequence[Study]) -> list[str]:
    """Split, seeds and failed runs of each study."""
    pairs = zip(LETTERS, studies, strict=False)
    return [f"{letter}: {clean(caption(study.material.rows))}" for letter, study in pairs]


def _compared(studies: Sequence[Study], view: View) -> Section:
    differences = difference_table(studies)
    words = () if differences.frame["n"].gt(0).any() else (NO_PAIR,)
    shown = [differences] if not words else []
    return Section("compare", "Compare", words, (beside_table(studies, view), *shown, specs_table(studies)))


def _pictures(studies: Sequence[Study], view: View) -> Section:
    """The figures of the first screen as files, one per study."""
    blocks = [
        replace(
            plot(f"margins_{letter}", f"Margins of {study.name}", figures.margin_strips(study.material.rows, view.tau)),
            panels=(),
            key=(),
        )
        for letter, study in zip(LETTERS, studies, strict=False)
    ]
    return Section("files", "Figures", (), tuple(blocks))


def _differences(base: Study, other: Study) -> list[dict[str, object]]:
    ours, theirs = (_networks(study) for study in (base, other))
    keys = [name for name in ours.columns if name in PAIR or "version_" in name]
    pairs = theirs.merge(ours, on=[name for name in keys if name in theirs], suffixes=("", "_base"))
    found = []
    for (label, mode), group in theirs.groupby(["label", "mode"], sort=False):
        mine = pairs[(pairs["label"] == label) & (pairs["mode"] == mode)]
        for name in QUANTITIES:
            told = paired((mine[name] - mine[f"{name}_base"]).to_numpy(float))
            place = {"label": label, "mode": mode}
            of = f"{BY_NAME[name].heading}, {BY_NAME[name].unit}"
            found.append({**place, "of": of, **told, "n_unpaired": len(group) - len(mine)})
    return found


def _networks(study: Study) -> pd.DataFrame:
    """Strict-feasible rows with what pairs them."""
    rows = study.material.parts.strict.rows
    versions = [name for name in rows.columns if "version_" in name]
    return rows.assign(label=_labels(rows["config"], study.material.rows))[[*PAIR, *versions, *QUANTITIES]]


def _labels(configs: pd.Series, rows: pd.DataFrame) -> pd.Series:
    """What tells each config from others of its study; empty where it is the only one."""
    return configs.map(told_apart(rows)).fillna("").astype(object)


def _lines(study: Study, view: View) -> pd.DataFrame:
    lines = pd.DataFrame(answer_lines(study.material.parts, view))
    return lines.assign(label=_labels(lines["config"], study.material.rows))[["label", "mode", *SIDE]]


def _check(studies: Sequence[Study]) -> None:
    names = [study.name for study in studies]
    if len(studies) > len(LETTERS):
        raise Refused(
            f"wanted at most {len(LETTERS)} studies, found {len(studies)}",
            "name fewer",
            where="studies beside each other",
            cause="a page gives each study a letter",
        )
    if len(set(names)) < len(names):
        raise Refused(
            f"wanted different studies, found {clean(max(names, key=names.count))} twice",
            "name each study once",
            where="studies beside each other",
            cause="a study beside itself differs in nothing",
        )
    splits = {study.name: " and ".join(sorted(set(study.material.rows["split"]))) for study in studies}
    if len(set(splits.values())) > 1:
        told = ", ".join(f"{name} on {split}" for name, split in splits.items())
        raise Refused(
            f"wanted studies on one split, found {clean(told)}",
            "certify the other study too, or choose with --only split=guard",
            where="studies beside each other",
            cause="margins of rows that a choice has seen and of rows that none has seen are two quantities",
        )
