"""The end of a run: the final table as text for a person and as bytes for a comparison, and what a search found."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table

from certvae import answers, looks
from certvae.canonical import finite, plain
from certvae.certificate import CLAIM_SPLIT
from certvae.engine.compared import DESCRIPTIVE, compared
from certvae.engine.progress import digits, listing, setting
from certvae.engine.rows import Row, fresh
from certvae.engine.search import SearchCells
from certvae.quality import PAPER_TAUS
from certvae.spec.found import confirmation_words, winner_words
from certvae.spec.goal import Goal
from certvae.spec.judged import Judged
from certvae.spec.noise import NO_NOISE, Noise
from certvae.spec.quantities import read_by
from certvae.spec.ranking import hypervolume, nearest_misses, pareto_front
from certvae.store.layout import VIEWS
from certvae.store.program import told
from certvae.terminal import number_of
from certvae.tracking.runs import flattened, without_seed

SHORT = {"strict-feasible": "strict", "stress-case": "stress"}
SHOWN_REASONS = 5
HOPELESS = (
    "stopped: no search seed has a strict-feasible teacher, and nothing that is searched changes a teacher. "
    "`certvae report` shows every candidate beside the thresholds; give the teacher search more to choose "
    "from (--teacher.*), train its features longer (--warm-up.training.epochs), or relax --teacher.thresholds.*"
)
TAU_COLUMNS = tuple(f"margin_tau_{tau:.2f}" for tau in PAPER_TAUS)
FINAL = read_by("final")
ROOM = 11  # letters of a mode and of its active units that fit beside everything else into 100 columns
HEADINGS = (
    *("teacher", "I_T", "L_TS", "margin", *(f"-{tau:.2f}" for tau in PAPER_TAUS), "bound", "I_S", "PSNR", "AU"),
    *("mean", "channel"),
)
WORDS = ("teacher", "mean", "channel")
COLUMNS = (*FINAL[: FINAL.index("margin") + 1], *TAU_COLUMNS, *FINAL[FINAL.index("margin") + 1 :])


def with_taus(row: Row) -> dict[str, Any]:
    """A row with its margin at every tau: tau is a view, so it is derived here and never stored."""
    margin = row.get("margin")
    return {**row, **{f"margin_tau_{tau:.2f}": None if margin is None else margin - tau for tau in PAPER_TAUS}}


def table_text(rows: Iterable[Row]) -> str:
    """The final table as CSV: a function of the plan and the results alone, byte for byte."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _exact(value) for name, value in with_taus(row).items() if name in COLUMNS})
    return out.getvalue()


def final(rows: Sequence[Row]) -> list[Row]:
    """The rows of the final table: of certify where they may be seen, else of guard."""
    return [row for row in rows if row["split"] == CLAIM_SPLIT] or list(rows)


def show(rows: Sequence[Row], store: Path, console: Console, stale: Callable[[Row], bool] = fresh) -> None:
    """Prints the final table and writes it; says where, and its digest.

    Args:
        stale: whether another text of the program had a part in a row.
    """
    if not rows:
        return
    text, first = table_text(rows), rows[0]
    path = folder(store, first["study"]) / "table.csv"
    path.write_text(text)
    for table in tables(rows, stale):
        console.print(table)
    for line in lost(rows):
        console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    console.print(f"final table     {path}", highlight=False, soft_wrap=True)
    console.print(f"table digest    {hashlib.sha256(text.encode()).hexdigest()}", highlight=False, soft_wrap=True)
    console.print(f"rows            {store / 'rows' / first['study']}", highlight=False, soft_wrap=True)


def lost(rows: Iterable[Row]) -> list[str]:
    """Why networks have no numbers, the most frequent reason first, with a network of each."""
    without = [(row["reason"], f"seed {row['seed']} {row['mode']}") for row in rows if row["outcome"] != "ok"]
    return _counted(without, "without numbers")


def tables(rows: Sequence[Row], stale: Callable[[Row], bool] = fresh) -> list[Table]:
    """The final table for a terminal, one per config, and where there are several one that compares them."""
    told = differences(rows) if rows else {}
    found = [
        table_shown([row for row in rows if row["config"] == config], words, stale) for config, words in told.items()
    ]
    return [*found, compared(rows, told)] if len(told) > 1 else found


def folder(store: Path, study: str) -> Path:
    """Where the views of a study lie."""
    path = store / VIEWS / study
    path.mkdir(parents=True, exist_ok=True)
    return path


def differences(rows: Iterable[Row]) -> dict[str, str]:
    """What tells configs apart: {config: the fields, with values, on which the configs of these rows differ}."""
    specs = {row["config"]: without_seed(flattened(row["spec"])) for row in rows}
    common = set.intersection(*map(set, specs.values()))
    told = sorted(name for name in common if len({spec[name] for spec in specs.values()}) > 1)
    return {config: ", ".join(f"{name} {spec[name]}" for name in told) for config, spec in specs.items()}


def table_shown(rows: Sequence[Row], difference: str = "", stale: Callable[[Row], bool] = fresh) -> Table:
    """The final table of one config for a terminal of 100 columns: nats, and dB for PSNR.

    Args:
        difference: what tells this config from others of the study.
        stale: rows of which this is true bear a star, and the caption says what it means.
    """
    status = _status_of_all(rows) if _is_crowded(rows) else ""
    hidden = 1 if status else 0
    columns = HEADINGS[hidden:]
    table = listing(
        *("seed", "mode", *columns),
        right={*columns} - {*WORDS},
        whole=("seed", *columns),  # a mode gives way where its name is too long: no number is ever cut
        title=heading(rows, status, difference),
        caption=_caption(rows, stale),
        padding=(0, 1, 0, 0),
    )
    seed = rows[0]["seed"]
    for row in rows:
        if row["seed"] != seed:
            table.add_row()
        seed = row["seed"]
        cells = _cells(with_taus(row))
        table.add_row(f"{seed}{'*' if stale(row) else ''}", row["mode"], *(cells[hidden:] or cells))
    return table


def heading(rows: Sequence[Row], status: str = "", difference: str = "") -> str:
    """Study, data, rows and teacher, as far as the first row that knows them tells."""
    first = rows[0]
    shown = f" ({first['substitute']})" if first["substitute"] else ""
    counted = next((f", {row['n']:,} {row['split']} rows" for row in rows if "n" in row), "")
    taught = next((f", teacher {row['teacher_source']}" for row in rows if "teacher_source" in row), "")
    title = f"{first['study']}: {first['data']}{shown}{counted}{taught}{status}"
    return f"{title}; {difference}" if difference else title


def _caption(rows: Sequence[Row], stale: Callable[[Row], bool]) -> str:
    """What the columns mean, what is claimed, and how many rows are stale."""
    claimed = [*sorted({row["preconditions"] for row in rows if row.get("preconditions")}), looks.sentence(rows)]
    claimed += [DESCRIPTIVE.format(split) for split in sorted({row["split"] for row in rows} - {CLAIM_SPLIT})]
    caption = (
        "I_T, L_TS, margin = I_T - L_TS, margin minus tau and its population bound in nats. I_S: information of the "
        "head's own rows in nats, a diagnostic, not I(x; z). PSNR in dB on [0, 1] pixels. AU: units whose mean has a "
        "variance above 0.01. mean: do posterior means vary with the image; channel: do draws carry information. "
        "Only a dead channel is a collapse. "
        + "".join(f"{text[0].upper()}{text[1:]}. " for text in claimed if text)
        + "What is not positive proves nothing."
    )
    old = sum(map(stale, rows))
    return f"{caption} [yellow]* {told(old, len(rows))}.[/]" if old else caption


def _is_crowded(rows: Sequence[Row]) -> bool:
    """Whether a mode or a number of active units is longer than what 100 columns have room for."""
    units = max((len(str(row["active_units"])) for row in rows if row["outcome"] == "ok"), default=0)
    return max(len(row["mode"]) for row in rows) + units > ROOM


def _status_of_all(rows: Sequence[Row]) -> str:
    """What quality control says of the teachers, where it says the same of all: a title says it in less room."""
    found = {SHORT.get(str(row["teacher_status"]), "?") for row in rows if row["outcome"] == "ok"}
    return f", {found.pop()}" if len(found) == 1 else ""


def search_shown(cells: SearchCells) -> Group:
    """What a search found: the winner, confirmed on fresh seeds, the optimism between both, and the Pareto front."""
    judged = cells.configs
    incomplete = [one for one in judged if one.outcome == "incomplete"]
    winner = cells.winner
    counts = (f"{len(incomplete)} incomplete", early(judged, len(cells.search.seeds)))
    lines = [f"{number_of(len(judged), 'config')} judged, {', '.join(counts)}, {feasible(judged, cells.search.goal)}"]
    lines += _reasons(incomplete)
    if repeated := len(cells.judged) - len(judged):
        lines.append(f"{number_of(repeated, 'proposal')} of an earlier config, which is counted and shown once")
    if cells.exhausted:
        lines.append(f"the space is exhausted: it has {number_of(len(judged), 'config')} and no other")
    if cells.hopeless:
        return Group(*lines, HOPELESS)
    if winner is None:
        misses = nearest_misses(judged)
        shown = ["Nearest misses:", _configs_shown(misses, cells)] if misses else []
        return Group(*lines, _nothing(cells), *shown)
    drawn = cells.drawn(winner.config)
    lines += [winner_text(winner, judged, cells.search.goal, drawn), _confirmed(cells, winner)]
    lines += [cells.refused] if cells.refused else []
    lines += [_volume_text(judged, cells)] if cells.search.goal.pareto else []
    over = "(strict-feasible search seeds, guard rows, n_failed 0)"
    lines.append(f"Pareto front of {cells.search.goal.sought} and PSNR {over}:")
    return Group(*lines, _configs_shown(pareto_front(judged), cells))


def early(judged: Sequence[Judged], seeds: int) -> str:
    """How many of these configs were ended early, and after how many of their seeds those of a race."""
    ended = [one for one in judged if one.outcome == "censored"]
    raced = Counter(one.n + one.n_stress for one in ended if one.score is not None)
    said = [f"{count} stopped after {ran} of {seeds} seeds" for ran, count in sorted(raced.items())]
    return ", ".join([*said, f"{len(ended) - raced.total()} censored halfway"])


def feasible(judged: Sequence[Judged], goal: Goal) -> str:
    """How many configs keep their constraints in the mean, and how many surely do."""
    noise, certainty = Noise.pooled(judged), goal.certainty
    found = [noise.kept(one) for one in judged if one.feasible]
    if not noise.is_known:
        return f"{len(found)} feasible, {NO_NOISE}"
    return f"{len(found)} feasible, {sum(kept >= certainty for kept in found)} of them at {certainty:.0%}"


def _nothing(cells: SearchCells) -> str:
    if not any(one.feasible for one in cells.configs):
        return "nothing feasible."
    return (
        f"nothing feasible at {cells.search.goal.certainty:.0%}: seeds are too noisy to tell. Give more of them "
        "(--search-seeds), or ask for less (--goal.certainty 0.5 goes by means)."
    )


def best(cells: SearchCells, data: str, command: str) -> dict[str, Any] | None:
    """The content of `best.json`: the winner's cell, which `--config` reads, and how it was found; None without one.

    Args:
        data: where its data are found, from any folder.
        command: the command line of the search.
    """
    winner = cells.winner
    if winner is None:
        return None
    known = {name: getattr(winner, name) for name in ("config", "score", "psnr", "psnr_drop", "slack", "n", "n_stress")}
    found = {**known, "slack": finite(winner.slack), "drawn": dict(cells.drawn(winner.config))}
    about = {"goal": cells.search.goal, "configs": len(cells.configs), "confirmation": _confirmed(cells, winner)}
    return plain({"data": data, "command": command, **found, **about, "spec": cells.spec(winner.config)})


def _reasons(incomplete: Sequence[Judged]) -> list[str]:
    """Why configs are incomplete, the most frequent reason first, with a config of each."""
    return [f"  {line}" for line in _counted([(one.reason, one.config[:12]) for one in incomplete], "incomplete")]


def _counted(reasons: Sequence[tuple[str, str]], what: str) -> list[str]:
    """A line for each reason, by how many have it, with the name of the first."""
    counts, first = Counter(reason for reason, _ in reasons), dict(reversed(reasons))
    shown = counts.most_common(SHOWN_REASONS)
    lines = [f"{count} {what}, {first[reason]} the first: {reason}" for reason, count in shown]
    left = len(counts) - len(shown)
    return lines + ([f"and {number_of(left, 'other reason')}"] if left else [])


def _confirmed(cells: SearchCells, winner: Judged) -> str:
    """The winner on its confirmation seeds."""
    rows = [row for cell in cells.confirmed() for row in cells.rows.of(cell)]
    return confirmation_words(winner, cells.search.confirmation_seeds, rows, cells.search.goal)


def _volume_text(judged: Sequence[Judged], cells: SearchCells) -> str:
    """The hypervolume above no margin at all and the PSNR floor, or the lowest PSNR of any complete config."""
    floor, seen = cells.search.goal.psnr_floor, [one.psnr for one in judged if one.psnr is not None]
    lowest = min(seen) if floor is None else floor
    volume = hypervolume(judged, (0.0, lowest))
    return f"hypervolume {volume:.4f} nats dB above a margin of 0 and a PSNR of {lowest:.2f} dB"


def winner_text(winner: Judged, judged: Sequence[Judged], goal: Goal, drawn: Mapping[str, Any]) -> str:
    """The winner of a search among these configs, with what was drawn for it."""
    return f"winner {winner.config[:12]}  {_drawn(drawn)}: {winner_words(winner, judged, goal)}"


def _configs_shown(configs: Sequence[Judged], cells: SearchCells) -> Table:
    goal = cells.search.goal
    table = listing("config", goal.sought, "PSNR", f"slack {goal.unit}", "drawn")
    for one in configs:
        numbers = (_score(one, goal), f"{one.psnr:.2f}", f"{one.slack:+.2f}")
        table.add_row(one.config[:12], *numbers, _drawn(cells.drawn(one.config)))
    return table


def _score(one: Judged, goal: Goal) -> str:
    return digits(one.score) if goal.kind == "max_kl" else _signed(one.score)


def _drawn(drawn: Mapping[str, Any]) -> str:
    """What the sampler drew: numbers in four digits, choices as they are."""
    return "  ".join(f"{name} {setting(value)}" for name, value in drawn.items())


def _cells(row: Row) -> list[str]:
    if row["outcome"] != "ok":
        return [f"[red]{row['outcome']}[/]"]
    margins = [_signed(row["margin"]), *(_signed(row[name], "+.2f") for name in TAU_COLUMNS)]
    status = SHORT.get(str(row["teacher_status"]), "?")
    last = [digits(row["student_info"], ".3f"), digits(row["psnr_01"], ".1f"), str(row["active_units"])]
    words = [(answers.mean(row) or "-").replace("the ", ""), answers.channel(row) or "-"]  # 100 columns in all
    bound = _signed(row["population_bound"])
    return [status, digits(row["info"], ".3f"), digits(row["loss"], ".3f"), *margins, bound, *last, *words]


def _signed(value: float | None, form: str = "+.3f") -> str:
    return "-" if value is None else f"[{'green' if value > 0 else 'red'}]{value:{form}}[/]"


def _exact(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
