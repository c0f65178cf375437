"""One study as a page: every table and figure in report.html, and the same as CSV, Markdown, LaTeX, PNG and PDF.

python analysis/report.py --store DIR --study NAME                        writes DIR/views/report/NAME/report.html
python analysis/report.py --store DIR --study NAME --tau 0.2              another view on the same rows, no training

Equal rows and equal views give equal bytes: nothing on the page depends on the time, the machine or the path.
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

if not __package__:  # run as a file: modules are found as from the folder above
    sys.path[0], __package__ = str(Path(__file__).resolve().parents[1]), "analysis"

import pandas as pd
import tyro

from certvae.errors import Fault
from certvae.quality import Thresholds
from certvae.spec.goal import Goal
from certvae.spec.validation import refuse
from certvae.store.disk import disk_faults
from certvae.store.program import PROGRAM, is_stale, program_digest, told

from . import load, search
from .captions import caption, stage_versions, subject, versions
from .figures.simplex import first_teachers
from .page import Plot, Section, bundle, page
from .sections import Material, claims, sections
from .table import Table
from .views import DECLARED, View, partition

DESCRIPTIVE = (
    "No config of this study was certified yet. These are rows of split {split}, which the teacher and the choice of "
    "configs have seen: their margins are exact on these rows, and nothing is claimed about the population."
)
LEADING = " Of {count} configs the one that leads the search is shown; the others are under Search."


Bound = float | Literal["searched", "none"]
"""A bound on PSNR in dB: that of the search, none, or another one."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a report is asked for."""

    store: Path
    """Folder of the store."""
    study: str
    """Name of the study."""
    out: Path | None = None
    """Folder to write to; views/report/STUDY in the store when absent."""
    tau: float = DECLARED.tau
    """Safety buffer of claims, nats."""
    psnr_drop: Bound = "searched"
    """A config may lose so many dB of PSNR against its reference; as in the search, or without such a bound."""
    psnr_floor: Bound = "searched"
    """Least PSNR, dB; as in the search, or without such a bound."""
    only: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="COLUMN=TEXT")] = ()
    """Keep rows that show this text there; may be given several times."""
    mix: Annotated[tuple[load.Mixable, ...], tyro.conf.UseAppendAction] = ()
    """What may differ between rows; may be given several times."""
    thresholds: Annotated[Thresholds, tyro.conf.OmitArgPrefixes] = DECLARED.thresholds
    """Quality control of teachers."""

    @property
    def chosen(self) -> dict[str, str]:
        """Column -> text that rows must show there.

        Raises:
            ConfigFault: a pair without =.
        """
        pairs = [pair.partition("=") for pair in self.only]
        for name, sign, _ in pairs:
            if not sign:
                raise refuse("--only", "COLUMN=TEXT", name, "write it as --only split=guard")
        return {name: text for name, _, text in pairs}

    def view(self, goal: Goal) -> View:
        """The view that was asked for, with the bounds of this goal where none were given."""
        drop, floor = _bound(self.psnr_drop, goal.psnr_drop), _bound(self.psnr_floor, goal.psnr_floor)
        unbounded = drop is None and floor is None and goal.kind == "margin"
        goal = dataclasses.replace(goal, psnr_drop=drop, psnr_floor=floor, pareto=goal.pareto or unbounded)
        return View(tau=self.tau, goal=goal, thresholds=self.thresholds)


def write(request: Request) -> Path:
    """Writes the report and returns the path of report.html.

    Raises:
        StoreFault, Refused: see `load.load`.
        DiskFault: the folder cannot be written.
    """
    material, warnings = gather(request)
    folder = request.out or request.store / "views" / "report" / request.study
    with disk_faults("report"):
        folder.mkdir(parents=True, exist_ok=True)
    html, blocks = build(request, material, warnings)
    with disk_faults("report"):
        for block in blocks:
            for name, data in _files(block).items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        (folder / "report.html").write_text(html, encoding="utf-8")
    return folder / "report.html"


def build(request: Request, material: Material, warnings: Sequence[str]) -> tuple[str, list[Table | Plot]]:
    """The page, and every table and picture on it, from what `gather` returns."""
    made = sections(material)
    rows = material.rows
    lead = (f"{subject(rows)}; {len(set(rows['mode']))} modes.", f"{caption(rows, request.tau)}.")
    html = page(f"Study {request.study}", lead, warnings, claims(material), made, _footer(material, made))
    return html, [block for section in made for block in section.blocks]


def gather(request: Request) -> tuple[Material, list[str]]:
    """Reads the rows of a study and what they point at; and what a reader must be warned of."""
    frame = load.load(request.store, request.study, only=request.chosen, mix={*request.mix, "splits"})
    goal, seeds = load.searched(request.store, request.study) or (search.goal_of(frame), ())
    view = request.view(goal)
    guard = _searched(frame, seeds)
    tried = partition(guard, view.thresholds) if guard["config"].nunique() > 1 else None
    scored = None if tried is None else search.configs(tried, view.goal, seeds)
    rows, warnings = _focus(frame, scored)
    first = rows[rows["config"] == rows["config"].iloc[0]]
    material = Material(
        view=view,
        parts=partition(rows, view.thresholds),
        tried=tried,
        scored=scored,
        curves=load.curves(request.store, rows),
        candidates=load.candidates(request.store, rows),
        pictures=load.pictures(request.store, first),
        machines=load.machines(request.store, rows),
        teachers=first_teachers(request.store, rows),
    )
    return material, [*warnings, *_warnings(rows, request)]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Raises:
        SystemExit: from tyro, with code 2, for unknown flags and wrong types.
    """
    request = tyro.cli(Request, args=argv, description=(__doc__ or "").partition("\n")[0])
    try:
        print(write(request))
    except Fault as fault:
        print(fault, file=sys.stderr)
        return fault.exit_code
    return 0


def _bound(asked: Bound, usual: float | None) -> float | None:
    match asked:
        case "searched":
            return usual
        case "none":
            return None
        case _:
            return asked


def _focus(frame: pd.DataFrame, scored: pd.DataFrame | None) -> tuple[pd.DataFrame, list[str]]:
    """The rows that the tables are about: certified ones when there are any, else those of one config on guard."""
    for split in ("certify", "guard", "train"):
        rows = frame[frame["split"] == split]
        if len(rows):
            break
    if split == "certify":
        return rows.reset_index(drop=True), []
    warning = DESCRIPTIVE.format(split=split)
    if scored is None:
        return rows.reset_index(drop=True), [warning]
    chosen = rows[rows["config"] == scored["config"].iloc[0]].reset_index(drop=True)
    return chosen, [warning + LEADING.format(count=rows["config"].nunique())]


def _searched(frame: pd.DataFrame, seeds: Sequence[int]) -> pd.DataFrame:
    """The guard rows that configs are ordered by: those of the search's seeds, where the store knows them.

    Fresh seeds that confirmed a chosen config stand on certify rows too; they are not what the others had, so they do
    not count. Where all seeds of a config were certified, nothing was confirmed and all of them count.
    """
    guard = frame[frame["split"] == "guard"]
    if seeds:
        return guard[guard["seed"].isin(seeds)]
    opened = set(frame.loc[frame["split"] == "certify", "cell"])
    fresh = guard["cell"].isin(opened)
    every = fresh.groupby(guard["config"]).transform("all")
    return guard[~fresh | every]


def _warnings(rows: pd.DataFrame, request: Request) -> list[str]:
    warnings = []
    if substitutes := sorted(set(rows["substitute"].dropna())):
        named = "; ".join(substitutes)
        warnings.append(f"A substitute stands for the data set: {named}. Do not compare with printed numbers.")
    if stale := sum(is_stale({PROGRAM: made_by}, program_digest()) for made_by in rows[PROGRAM]):
        warnings.append(f"{told(stale, len(rows))}.")
    if request.mix:
        warnings.append(f"Rows of several {' and '.join(sorted(request.mix))} may be mixed, as was asked for.")
    return warnings


def _footer(material: Material, made: Sequence[Section]) -> dict[str, str]:
    rows, thresholds = material.rows, material.view.thresholds
    listed = ", ".join(f"{field.name} {getattr(thresholds, field.name):g}" for field in dataclasses.fields(thresholds))
    tables = sum(isinstance(block, Table) for section in made for block in section.blocks)
    plots = sum(len(section.blocks) for section in made) - tables
    return {
        "View": f"tau {material.view.tau:g} nats; {material.view.constraint}; thresholds: {listed}",
        "Configs": ", ".join(rows["config"].unique()),
        "Data digest": ", ".join(rows["data_digest"].dropna().unique()),
        "Packages": versions(rows),
        "Stages": stage_versions(rows),
        "Environment": ", ".join(rows["environment"].dropna().unique()),
        "Files": f"{tables} tables as CSV, Markdown and LaTeX; {plots} figures as PNG and PDF",
    }


def _files(block: Table | Plot) -> dict[str, bytes]:
    match block:
        case Table():
            return {f"tables/{block.name}.{ending}": text.encode() for ending, text in bundle(block).items()}
        case Plot():
            return {f"figures/{block.name}.{ending}": data for ending, data in block.files.items()}


if __name__ == "__main__":
    sys.exit(main())
