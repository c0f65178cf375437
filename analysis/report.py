"""A study as a page, or several beside each other: report.html, and its tables and figures as files.

python analysis/report.py --store DIR --study NAME                        writes DIR/views/report/NAME/report.html
python analysis/report.py --store DIR --study NAME --tau 0.2              another view on the same rows, no training
python analysis/report.py --store DIR NAME DIR2:NAME                      two studies beside each other

Equal rows and equal views give equal bytes: nothing on the page depends on the time, the machine or the path.
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

if not __package__:  # run as a file: modules are found as from the folder above
    sys.path[0], __package__ = str(Path(__file__).resolve().parents[1]), "analysis"

import pandas as pd
import tyro

from certvae.errors import Fault
from certvae.quality import Thresholds
from certvae.spec.found import confirmation_words, winner_words
from certvae.spec.goal import Goal
from certvae.spec.judged import Judged
from certvae.spec.ranking import best
from certvae.spec.validation import refuse
from certvae.store.disk import disk_faults
from certvae.store.program import PROGRAM, is_stale, program_digest, told
from certvae.store.records import studies
from certvae.terminal import STORE, or_none

from . import load, search
from .captions import caption, seeds, subject, versions
from .figures.simplex import first_teachers
from .live import payload
from .opening import Opening, Winner, command, opening
from .page import Page, Plot, Section, bundle, page, sliders, without
from .parameters import labels
from .sections import Material, sections
from .studies import Study, page_of
from .table import Table, clean, minus
from .views import DECLARED, View, everything, partition

DESCRIPTIVE = (
    "No config of this study was certified yet. These are rows of split {split}, which the teacher and the choice of "
    "configs have seen: their margins are exact on these rows, and nothing is claimed about the population."
)
LEADING = " Of {count} configs the one that leads the search is shown; the others are under Search."

OR_NONE = tyro.conf.arg(help_behavior_hint=or_none)
Bound = float | Literal["searched", "none"]
"""A bound on PSNR in dB: that of the search, none, or another one."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a report is asked for."""

    studies: Annotated[tyro.conf.Positional[tuple[str, ...]], OR_NONE] = ()
    """One study, or several to stand beside each other: names in the store, or DIR:NAME for a study of another one."""
    store: Path = STORE
    """Folder of the store."""
    study: Annotated[str, OR_NONE] = ""
    """Name of the study; the only one of the store when absent."""
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
    def asked(self) -> "list[Request]":
        """A request per study, each with its own store.

        Raises:
            ConfigFault: no study is named, and the store has several, or none.
        """
        names = self.studies or ((self.study,) if self.study else tuple(studies(load.open_store(self.store))))
        if len(names) != 1 and not self.studies:
            there = ", ".join(names) or "none yet: run a study first"
            raise refuse(
                "STUDY", "one of the studies there", None, f"give --study NAME, or NAME NAME; there are {there}"
            )
        pairs = [name.rpartition(":") for name in names]
        stores = [(Path(folder) if folder else self.store, name) for folder, _, name in pairs]
        return [dataclasses.replace(self, studies=(), study=name, store=store) for store, name in stores]

    @property
    def folder(self) -> Path:
        """Where the report goes."""
        return self.out or self.store / "views" / "report" / " beside ".join(one.study for one in self.asked)

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
        """The view that was asked for, with the bounds of this goal where none were given.

        Raises:
            ConfigFault: a bound on PSNR, where alpha_kl was maximised.
        """
        drop, floor = _bound(self.psnr_drop, goal.psnr_drop), _bound(self.psnr_floor, goal.psnr_floor)
        if goal.kind == "max_kl" and (drop, floor) != (None, None):
            wanted = "none: this search maximised alpha_kl, whatever the PSNR"
            raise refuse("--psnr-drop, --psnr-floor", wanted, (drop, floor), "leave them away")
        unbounded = drop is None and floor is None and goal.kind == "margin"
        goal = dataclasses.replace(goal, psnr_drop=drop, psnr_floor=floor, pareto=goal.pareto or unbounded)
        return View(tau=self.tau, goal=goal, thresholds=self.thresholds)


def write(request: Request) -> Path:
    """Writes the report and returns the path of report.html.

    Raises:
        StoreFault, Refused: see `load.load`.
        DiskFault: the folder cannot be written.
    """
    html, blocks = _made(request.asked)
    folder = request.folder
    with disk_faults("report"):
        folder.mkdir(parents=True, exist_ok=True)
        for block in blocks:
            for name, data in _files(block).items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        (folder / "report.html").write_text(html, encoding="utf-8")
    return folder / "report.html"


def _made(asked: Sequence[Request]) -> tuple[str, list[Table | Plot]]:
    """The page of one study, or that of several beside each other."""
    gathered = [gather(one) for one in asked]
    if len(asked) == 1:
        return build(asked[0], *gathered[0])
    found = [
        Study(_called(one, asked), material, warnings)
        for one, (material, warnings) in zip(asked, gathered, strict=True)
    ]
    made = page_of(found, found[0].material.view)
    return page(made), [block for section in made.sections for block in section.blocks]


def _called(one: Request, asked: Sequence[Request]) -> str:
    """A study by its name, with its store where several have studies of that name."""
    same = sum(other.study == one.study for other in asked)
    return one.study if same == 1 else f"{one.store.name}:{one.study}"


def build(request: Request, material: Material, warnings: Sequence[str]) -> tuple[str, list[Table | Plot]]:
    """The page, and every table and picture on it, from what `gather` returns."""
    made, rows = sections(material), material.rows
    first = opening(material.parts, material.view, material.winner)
    origins = [
        caption(rows[rows["split"] == split], tau) for split in set(rows["split"]) for tau in (None, request.tau)
    ]
    packages = versions(rows)
    html = page(
        Page(
            title=f"{request.study}: does the latent path carry information?",
            kicker=f"Study {request.study} · {subject(rows)} · {_inputs(rows)}",
            opening=((request.study, first),),
            sections=made,
            provenance=_provenance(material, made),
            warnings=warnings,
            sliders=sliders(material.view, rows, None if material.moved is None else everything(material.moved)),
            rows=_embedded(material, first),
            origins=[without(origin, packages) for origin in origins],
            versions=packages,
            subject=clean(subject(rows)),
        )
    )
    return html, [block for section in made for block in section.blocks]


def gather(request: Request) -> tuple[Material, list[str]]:
    """Reads the rows of a study and what they point at; and what a reader must be warned of."""
    frame = load.load(request.store, request.study, only=request.chosen, mix={*request.mix, "splits"})
    goal, seeds = load.searched(request.store, request.study) or (search.goal_of(frame), ())
    view = request.view(goal)
    guard = _searched(frame, seeds)
    tried = partition(guard, view.thresholds) if guard["config"].nunique() > 1 else None
    ended, places = load.ended(request.store, request.study), load.places(request.store, request.study)
    scored = None if tried is None else search.configs(tried, view.goal, seeds, ended, places)
    judged = search.judged(everything(tried), view.goal, seeds, ended, places) if tried and seeds else []
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
        winner=_winner(request, frame, judged, view, seeds),
        seeds=tuple(seeds),
        ended=ended,
        places=places,
    )
    return material, [*warnings, *_warnings(rows, request)]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Raises:
        SystemExit: from tyro, with code 2, for unknown flags and wrong types.
    """
    request = tyro.cli(Request, prog="certvae report", args=argv, description=(__doc__ or "").partition("\n")[0])
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
        warnings.append(f"Not the rows of a published data set: {named}. Do not compare with printed numbers.")
    without = sorted(set(rows["withheld"].dropna()))
    warnings += [f"{why}. Leave such images in one split alone and run again: then there can be." for why in without]
    if stale := sum(is_stale({PROGRAM: made_by}, program_digest()) for made_by in rows[PROGRAM]):
        warnings.append(f"{told(stale, len(rows))}.")
    if request.mix:
        warnings.append(f"Rows of several {' and '.join(sorted(request.mix))} may be mixed, as was asked for.")
    return warnings


def _winner(
    request: Request, frame: pd.DataFrame, judged: Sequence[Judged], view: View, seeds: Sequence[int]
) -> Winner | None:
    """The config that leads a search, with its command and what fresh seeds say; None where nothing is sure enough."""
    winner = best(judged, view.goal.certainty)
    if winner is None:
        return None
    guard = frame[(frame["split"] == "guard") & (frame["config"] == winner.config)]
    rows = everything(partition(guard, view.thresholds)).to_dict("records")
    fresh, names = sorted({row["seed"] for row in rows} - set(seeds)), labels(frame)
    last = load.remembered(request.store, request.study)
    kept = load.best(request.store, request.study) == winner.config
    return Winner(
        names[winner.config],
        command(last, request.store, request.study, fresh if kept else ()),
        minus(winner_words(winner, judged, view.goal, names)),
        minus(confirmation_words(winner, fresh, rows, view.goal)),
    )


def _embedded(material: Material, first: Opening) -> dict[str, Any]:
    """The rows of a page and what its script must know of the first screen."""
    rows = payload(material.parts, material.moved, material.view, material.seeds, material.ended, material.places)
    return {**rows, "asked": first.asked, "axis": first.strips.axis, "words": first.words}


def _inputs(rows: pd.DataFrame) -> str:
    counts = " or ".join(f"{int(count):,}" for count in sorted(set(rows["n"].dropna()))) if "n" in rows else ""
    splits = " and ".join(sorted(set(rows["split"])))
    return f"{counts} {splits} rows, {seeds(rows['seed'])}".strip()


def _provenance(material: Material, made: Sequence[Section]) -> dict[str, str]:
    rows, thresholds = material.rows, material.view.thresholds
    listed = ", ".join(f"{field.name} {getattr(thresholds, field.name):g}" for field in dataclasses.fields(thresholds))
    tables = sum(isinstance(block, Table) for section in made for block in section.blocks)
    plots = sum(len(section.blocks) for section in made) - tables
    return {
        "Rows": caption(rows),
        "View": f"tau {material.view.tau:g} nats; {material.view.constraint}; thresholds: {listed}",
        "Configs": ", ".join(rows["config"].unique()),
        "Data digest": ", ".join(rows["data_digest"].dropna().unique()),
        "Stages": versions(rows, load.STAGE_VERSION),
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
