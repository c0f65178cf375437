"""Makes the sections of a report: tables and pictures by question, from the material of one study."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from certvae.spec.modes import named

from . import figures, search
from .captions import caption, subject
from .figures import simplex
from .figures.collapse import collapse_and_rescue
from .figures.drawing import saved
from .figures.panels import key, panels
from .figures.reconstructions import photographs
from .figures.search import search_caption
from .load import Pictures
from .opening import Winner
from .page import Plot, Section
from .parameters import labels, parameters
from .printed import TAU_SENSITIVITY, printed_for
from .table import Table, columns
from .tables import beside
from .tables import margins as tables
from .tables.answers import answer_table, apart_table, ranking_table
from .tables.baselines import baseline_table, verdict_table
from .tables.collapse import drift_table, forecast_table, rescue_table
from .tables.latent import code_table, head_table
from .tables.search import config_table, importance_table
from .tables.simplex import witness_table
from .tables.teachers import candidate_table, live_table, used_table
from .views import Partition, View, everything

NEVER_TRAINED = "untrained"  # the mode that has no curve
MOST_CANDIDATES = 20  # lines of the table of candidates on a page
PARTS = 12  # lines of a machine on the page: its hardware comes first, and the files have every package
MOST_GRIDS = 3  # seeds whose reconstructions are shown


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """All that a report is made of.

    Args:
        parts: the rows that tables are about, of one split.
        tried: guard rows of all configs of a search, or None when there is one config.
        scored: these configs, judged; see `analysis.search.configs`.
        curves, candidates, pictures, machines: what `parts` points at; see `analysis.load`.
        teachers: config -> teacher rows of one seed, where the witness is a simplex.
        winner: what the search chose, None where there was no search or nothing is feasible.
        seeds: those of the search.
        ended: configs that it ended early -> why.
        places: where each config lies in the space; see `load.places`.
    """

    view: View
    parts: Partition
    tried: Partition | None
    scored: pd.DataFrame | None
    curves: pd.DataFrame
    candidates: pd.DataFrame
    pictures: list[Pictures]
    machines: pd.DataFrame
    teachers: Mapping[str, np.ndarray]
    winner: Winner | None
    seeds: tuple[int, ...]
    ended: Mapping[str, str]
    places: Mapping[str, Mapping[str, float]]

    @property
    def moved(self) -> Partition | None:
        """What configs are ordered anew by while thresholds move: the page's script judges margins alone."""
        return self.tried if self.view.goal.kind == "margin" else None

    @property
    def rows(self) -> pd.DataFrame:
        """Strict and stress rows, one by one."""
        return everything(self.parts)


def sections(material: Material) -> list[Section]:
    """All sections that have something to show, in reading order."""
    makers: tuple[Callable[[Material], Section], ...] = (
        compared,
        collapse,
        tried_configs,
        buffers,
        trajectories,
        teachers,
        reconstruction,
        latent,
        witness,
        papers,
        environment,
    )
    made = (make(material) for make in makers)
    return [section for section in made if section.words or section.blocks]


def compared(material: Material) -> Section:
    """Modes over strict-feasible seeds, stress cases apart, paired differences; then every number behind them."""
    parts, view = material.parts, material.view
    strict = parts.strict
    blocks: list[Table | Plot] = [answer_table(parts, view), apart_table(parts, view)]
    shown = plot("margins", "Margin of every network by mode", figures.margin_strips(material.rows, view.tau))
    blocks.append(replace(shown, panels=(), key=()))  # the first screen draws it
    differences, failures = tables.contrast_table(strict), tables.failure_table(parts)
    blocks += [differences] if len(differences.frame) else []
    pooled = (tables.summary_table(strict, view), tables.seed_table(strict, view), beside.sign_table(strict, view))
    blocks += pooled if len(strict.rows) else ()
    blocks += [tables.seed_table(parts.stress, view)] if len(parts.stress.listed) else []
    blocks += [tables.claim_table(parts, view), tables.count_table(parts)]
    blocks += [failures] if len(failures.frame) else []
    told = () if len(failures.frame) else ("No run failed.",)
    absent = () if len(parts.stress.listed) else ("There is no stress case.",)
    return Section("compare", "Compare", (*absent, *told), tuple(blocks))


def collapse(material: Material) -> Section:
    """Where nothing but the KL weight differs: who dies when, and what the data said beforehand."""
    rows, title = material.rows, "Collapse, prevention and rescue"
    varied = {name.rpartition(".")[2] for name in parameters(rows).columns}
    if varied != {"alpha_kl"} or "alpha_kl" not in rows or not {"no_align", "full"} & set(rows["mode"]):
        return Section("collapse", title, (), ())
    expected = material.parts.strict.rows.dropna(subset="alpha_crit").groupby("mode")["alpha_crit"].mean()
    lines = {mode: float(expected[mode]) for mode in ("no_align", "full") if mode in expected}
    picture = collapse_and_rescue(rows, material.view.tau, lines)
    alt = "Margin, KL rate and active units against alpha_kl, with the forecast of collapse"
    woken = [rescue_table(material.parts)] if rows["response"].notna().any() else []
    tables = (forecast_table(material.parts), *woken, drift_table(material.curves, material.parts, material.view.tau))
    shown = (plot("collapse_and_rescue", alt, picture), *(one for one in tables if len(one.frame)))
    return Section("collapse", title, (), shown)


def latent(material: Material) -> Section:
    """Fair heads, what may be said of the code, and its diagnostics."""
    parts, rows = material.parts, material.rows
    blocks = [head_table(parts)]
    blocks += [verdict_table(parts)] if rows["affine_population_bound"].notna().any() else []
    blocks += [used_table(parts)] if rows["used_loss"].notna().any() else []
    return Section("latent", "Other heads, and the code", (), (*blocks, code_table(parts)))


def buffers(material: Material) -> Section:
    """Sensitivity to tau."""
    drawn = plots("margin_against_tau", "Margin against tau", material, material.rows, figures.margin_against_tau)
    return Section("tau", "Sensitivity to tau", (), (*drawn, tables.tau_table(material.parts, material.view)))


def trajectories(material: Material) -> Section:
    """Guard curves and rescue transitions."""
    plain = material.curves[~material.curves["mode"].isin(named("escape"))]
    modes = plain.groupby("config")["mode"].agg(set)
    rescued = plain[plain["config"].isin(modes.index[[{"no_align", "rescue"} <= found for found in modes]])]
    blocks = (
        *plots("margin_curves", "Guard margin over epochs, seed by seed", material, plain, figures.margin_curves),
        *plots(
            "rescue_transitions", "Margin around the start of rescue", material, rescued, figures.rescue_transitions
        ),
    )
    return Section("curves", "Guard curves", _gone(material), blocks)


def reconstruction(material: Material) -> Section:
    """PSNR in its two spaces, margin against PSNR, and pictures."""
    blocks: list[Table | Plot] = _grids(material)
    goal = material.view.goal
    if {goal.mode, goal.reference} <= set(material.rows["mode"]):

        def drawn(rows: pd.DataFrame, _: float) -> Figure:
            return figures.margin_against_psnr(rows, material.view)

        blocks += plots("margin_against_psnr", "Margin against PSNR", material, material.rows, drawn)
    blocks.append(tables.reconstruction_table(material.parts))
    words = (f"PSNR constraint: {material.view.constraint}.",) if goal.kind == "margin" else ()
    return Section("reconstruction", "Reconstruction", words, tuple(blocks))


def witness(material: Material) -> Section:
    """What is special to a simplex witness: the paper's table, what a margin costs, KL stress, escapes."""
    rows, tau, taught = material.rows, material.view.tau, material.teachers
    blocks: list[Table | Plot] = []
    if taught and "train_margin" in rows and (rows.groupby("teacher_source")["config"].nunique() == 1).all():
        blocks.append(witness_table(material.parts.strict))

    def path(group: pd.DataFrame, tau: float) -> Figure:
        return simplex.margin_energy(group, taught[group["config"].iloc[0]], tau)

    def escapes(curves: pd.DataFrame, tau: float) -> Figure:
        return simplex.escape_panels(curves, tau, float(rows["force_floor"].min()))

    known, watched = rows[rows["config"].isin(list(taught))], material.curves["mode"].isin(named("escape"))
    blocks += plots("margin_energy", "Margin against energy of the code", material, known, path)
    if taught and rows["alpha_kl"].nunique() > 1:
        picture = simplex.stress_grid(rows, next(iter(taught.values())), tau)
        blocks.append(plot("stress", "Margins against alpha_kl", picture))
    alt = "Force, gradient, spread and KL on the way out"
    blocks += plots("escape_panels", alt, material, material.curves[watched], escapes)
    return Section("witness", "Simplex witness", (), tuple(blocks))


def teachers(material: Material) -> Section:
    """Quality control of the teachers and of all candidates."""
    thresholds = material.view.thresholds
    rows, candidates = material.rows, material.candidates
    blocks: list[Table | Plot] = []
    if candidates["info"].notna().any():
        picture = figures.teacher_quality(candidates, thresholds)
        blocks.append(plot("teacher_quality", "Diagnostics of all teacher candidates with thresholds", picture))
        blocks.append(replace(candidate_table(candidates, rows, thresholds), lines=MOST_CANDIDATES))
    blocks.append(tables.teacher_table(material.parts, thresholds))
    blocks += [live_table(material.parts, material.view)] if rows["mode"].isin(named("live")).any() else []
    return Section("teachers", "Teachers", (), tuple(blocks))


def tried_configs(material: Material) -> Section:
    """The search: configs, Pareto front, importance and slices of parameters."""
    title, scored, view = "Search", material.scored, material.view
    if material.tried is None or scored is None:
        return Section("search", title, (), ())
    rows = everything(material.tried)
    if not {view.goal.mode, view.goal.reference} <= set(rows["mode"]):
        return Section("search", title, ("No mode of this search has its reference for reconstruction.",), ())
    varied, origin = parameters(rows), search_caption(rows, scored, view.tau)
    blocks: list[Table | Plot] = [ranking_table(scored, rows, view)]
    if scored["complete"].any():
        picture = figures.config_tradeoff(scored, view, origin)
        alt = "Configs: score against mean PSNR, with the Pareto front"
        blocks.append(plot("config_tradeoff", alt, picture))
    words = ["An order of configs on the guard split, not a selection."]
    if scored["feasible"].any() and not (scored["feasible"] & ~(scored["kept"] < view.goal.certainty)).any():
        words.append(f"No config keeps its constraints with a probability of {view.goal.certainty:.0%}: no winner.")
    if int(scored["complete"].sum()) >= search.LEAST_CONFIGS and varied.shape[1]:
        found = search.importance(scored, varied)
        bars = figures.parameter_importance(found, origin)
        lines = figures.slices(scored, varied, view, origin)
        blocks += [
            importance_table(found, rows, origin),
            plot("importance", "Importance of parameters", bars),
            plot("slices", "Score against each parameter", lines),
        ]
    else:
        words.append(f"Fewer than {search.LEAST_CONFIGS} complete configs: importance would be that of chance.")
    blocks.append(config_table(scored, rows, view))
    return Section("search", title, tuple(words), tuple(blocks))


def papers(material: Material) -> Section:
    """The printed tables, and ours beside them where they are about the same data set."""
    strict, rows = material.parts.strict, material.rows
    if not len(rows):
        return Section("papers", "The papers' tables", (), ())
    printed = printed_for(rows["data"].iloc[0], set(rows["mode"]))
    repeated = [table for table in printed if table.repeated and beside.comparable(strict, table.data)]
    blocks = [beside.beside_table(strict, table) for table in repeated]
    if rows["data"].isin(TAU_SENSITIVITY["data"]).all() and beside.comparable(strict, *TAU_SENSITIVITY["data"]):
        blocks.append(beside.tau_beside_table(strict))
    if rows["mode"].isin(named("baseline")).any() and len(strict.rows):
        blocks.append(baseline_table(strict, material.view))
    blocks += [beside.printed_table(table) for table in printed]
    words = () if blocks else ("The papers print no table about this data set; the signs above are what they claim.",)
    return Section("papers", "The papers' tables", words, tuple(blocks))


def environment(material: Material) -> Section:
    """The machines that made the rows: processor, GPUs, driver, Python, and every package."""
    frame = material.machines
    order = ("machine", "part", "found") if frame["machine"].nunique() > 1 else ("part", "found")
    title = f"Machines, and what was installed there — {subject(material.rows)}"
    table = Table("machines", title, frame, columns(*order), (caption(material.rows),), lines=PARTS)
    return Section("environment", "Environment", (), (table,) if len(frame) else ())


def _gone(material: Material) -> tuple[str, ...]:
    trained = material.rows[material.rows["mode"] != NEVER_TRAINED]
    wanted = set(trained["key_trained"].dropna())
    gone = len(wanted - set(material.curves["key_trained"]))
    return (f"The curves of {gone} of {len(wanted)} networks are no longer in the store.",) if gone else ()


def _grids(material: Material) -> list[Plot]:
    by_seed: Mapping[int, list[Pictures]] = {}
    for one in material.pictures:
        by_seed.setdefault(one.seed, []).append(one)
    return [
        replace(
            plot(
                f"reconstructions_seed_{seed}",
                f"Originals and reconstructions of seed {seed}",
                figures.reconstruction_grid(group, material.view.tau),
            ),
            panels=(),
            photos=photographs(group),
        )
        for seed, group in sorted(by_seed.items())[:MOST_GRIDS]
    ]


MOST_CONFIGS = 4  # configs that get pictures of their own


def plot(name: str, alt: str, figure: Figure, *, label: str = "") -> Plot:
    """A figure as panels for the page, and as PNG and PDF; the label of its config joins the heading."""
    files = {"png": saved(figure, "png"), "pdf": saved(figure, "pdf")}
    title, caption = (" ".join(words.split()) for words in (figure.get_suptitle(), figure.get_supxlabel()))
    heading = f"{title} — {label}" if label else title
    return Plot(name, alt, heading, caption, files, panels(figure), key(figure))


def plots(
    name: str, alt: str, material: Material, frame: pd.DataFrame, draw: Callable[[pd.DataFrame, float], Figure]
) -> list[Plot]:
    """A picture at tau for each of the first configs, named by it where there are several."""
    found = list(frame.groupby("config", sort=False))[:MOST_CONFIGS]
    names = labels(material.rows) if len(found) > 1 else {}
    tails = {config: f"_{str(config)[:8]}" if names else "" for config, _ in found}
    return [
        plot(f"{name}{tails[config]}", alt, draw(lines, material.view.tau), label=names.get(str(config), ""))
        for config, lines in found
    ]
