"""One study as a page: every table and figure in report.html, and the same as CSV, Markdown, LaTeX, PNG and PDF.

python analysis/report.py --store DIR --study NAME                        writes DIR/views/report/NAME/report.html
python analysis/report.py --store DIR --study NAME --tau 0.2              another view on the same rows, no training

Equal rows and equal views give equal bytes: nothing on the page depends on the time, the machine or the path.
"""

import argparse
import dataclasses
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pandas as pd

from analysis import load, search
from analysis.captions import caption, stage_versions, subject, versions
from analysis.figures.simplex import first_teachers
from analysis.page import Plot, Section, bundle, page
from analysis.sections import Material, claims, sections
from analysis.table import Table
from analysis.views import DECLARED, Partition, View, partition
from certvae.errors import Fault
from certvae.quality import Thresholds
from certvae.store.disk import disk_faults

DESCRIPTIVE = (
    "No config of this study was certified yet. These are rows of split {split}, which the teacher and the choice of "
    "configs have seen: their margins are exact on these rows, and nothing is claimed about the population."
)
LEADING = " Of {count} configs the one that leads the search is shown; the others are under Search."


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a report is asked for.

    Args:
        store: folder of the store.
        study: name of the study.
        view: tau, PSNR constraint and thresholds.
        only: column -> text that rows must show there.
        mix: what may differ between rows.
    """

    store: Path
    study: str
    view: View = DECLARED
    only: Mapping[str, str] = dataclasses.field(default_factory=dict)
    mix: Collection[load.Mixable] = ()


def write(request: Request, out: Path | None = None) -> Path:
    """Writes the report and returns the path of report.html.

    Args:
        request: which rows, seen how.
        out: folder for all files; by default `views/report/<study>` in the store.

    Raises:
        StoreFault, Refused: see `load.load`.
        DiskFault: the folder cannot be written.
    """
    material, warnings = gather(request)
    folder = out or request.store / "views" / "report" / request.study
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
    lead = (f"{subject(rows)}; {len(set(rows['mode']))} modes.", f"{caption(rows, request.view.tau)}.")
    html = page(f"Study {request.study}", lead, warnings, claims(material), made, _footer(request, material, made))
    return html, [block for section in made for block in section.blocks]


def gather(request: Request) -> tuple[Material, list[str]]:
    """Reads the rows of a study and what they point at; and what a reader must be warned of."""
    frame = load.load(request.store, request.study, only=request.only, mix={*request.mix, "splits"})
    guard = _searched(frame)
    tried = partition(guard, request.view.thresholds) if guard["config"].nunique() > 1 else None
    rows, warnings = _focus(frame, tried, request.view)
    parts = partition(rows, request.view.thresholds)
    first = rows[rows["config"] == rows["config"].iloc[0]]
    material = Material(
        view=request.view,
        parts=parts,
        tried=tried,
        curves=load.curves(request.store, rows),
        candidates=load.candidates(request.store, rows),
        pictures=load.pictures(request.store, first),
        teachers=first_teachers(request.store, rows),
    )
    return material, [*warnings, *_warnings(rows, request)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    given = _parser().parse_args(arguments)
    thresholds = Thresholds(**{field.name: getattr(given, field.name) for field in dataclasses.fields(Thresholds)})
    view = View(tau=given.tau, psnr_drop=given.psnr_drop, psnr_floor=given.psnr_floor, thresholds=thresholds)
    only = dict(pair.split("=", 1) for pair in given.only)
    request = Request(store=given.store, study=given.study, view=view, only=only, mix=given.mix)
    try:
        print(write(request, given.out))
    except Fault as fault:
        print(fault, file=sys.stderr)
        return fault.exit_code
    return 0


def _focus(frame: pd.DataFrame, tried: Partition | None, view: View) -> tuple[pd.DataFrame, list[str]]:
    """The rows that the tables are about: certified ones when there are any, else those of one config on guard."""
    for split in ("certify", "guard", "train"):
        rows = frame[frame["split"] == split]
        if len(rows):
            break
    if split == "certify":
        return rows.reset_index(drop=True), []
    warning = DESCRIPTIVE.format(split=split)
    if tried is None:
        return rows.reset_index(drop=True), [warning]
    leading = _leading(tried, view)
    chosen = rows[rows["config"] == leading].reset_index(drop=True)
    return chosen, [warning + LEADING.format(count=rows["config"].nunique())]


def _searched(frame: pd.DataFrame) -> pd.DataFrame:
    """The guard rows that configs are ordered by.

    Fresh seeds that confirmed a chosen config stand on certify rows too; they are not what the others had, so they do
    not count. Where all seeds of a config were certified, nothing was confirmed and all of them count.
    """
    guard = frame[frame["split"] == "guard"]
    opened = set(frame.loc[frame["split"] == "certify", "cell"])
    fresh = guard["cell"].isin(opened)
    every = fresh.groupby(guard["config"]).transform("all")
    return guard[~fresh | every]


def _leading(tried: Partition, view: View) -> str:
    """The config that leads the search's own table, or the first one when no config has a score."""
    rows = tried.strict.rows if len(tried.strict.rows) else tried.stress.listed
    if search.pair_of(tried.strict.rows) is None:
        return rows["config"].iloc[0]
    return search.ranked(search.configs(tried.strict, view))["config"].iloc[0]


def _warnings(rows: pd.DataFrame, request: Request) -> list[str]:
    substitutes = sorted(set(rows["substitute"].dropna()))
    found = [f"A substitute stands for the data set: {'; '.join(substitutes)}. Do not compare with printed numbers."]
    mixed = [f"Rows of several {' and '.join(sorted(request.mix))} may be mixed, as was asked for."]
    return (found if substitutes else []) + (mixed if request.mix else [])


def _footer(request: Request, material: Material, made: Sequence[Section]) -> dict[str, str]:
    rows, thresholds = material.rows, request.view.thresholds
    listed = ", ".join(f"{field.name} {getattr(thresholds, field.name):g}" for field in dataclasses.fields(thresholds))
    tables = sum(isinstance(block, Table) for section in made for block in section.blocks)
    plots = sum(len(section.blocks) for section in made) - tables
    return {
        "View": f"tau {request.view.tau:g} nats; {request.view.constraint}; thresholds: {listed}",
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    parser.add_argument("--store", type=Path, required=True, help="folder of the store")
    parser.add_argument("--study", required=True, help="name of the study")
    parser.add_argument("--out", type=Path, help="folder to write to; default: views/report/STUDY in the store")
    parser.add_argument("--tau", type=float, default=DECLARED.tau, help="safety buffer, nats")
    parser.add_argument("--psnr-drop", type=_bound, default=DECLARED.psnr_drop, help="dB below the reference, or none")
    parser.add_argument("--psnr-floor", type=_bound, default=None, help="least psnr_01, dB, or none")
    parser.add_argument("--only", action="append", default=[], type=_pair, metavar="COLUMN=TEXT", help="keep such rows")
    parser.add_argument("--mix", action="append", default=[], choices=get_args(load.Mixable), help="what may differ")
    for field in dataclasses.fields(Thresholds):
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, type=float, default=field.default, help="quality control of teachers")
    return parser


def _bound(text: str) -> float | None:
    return None if text == "none" else float(text)


def _pair(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"wanted COLUMN=TEXT, got {text!r}")
    return text


if __name__ == "__main__":
    sys.exit(main())
