"""Views on rows: tau, the PSNR constraint and the quality thresholds. Changing one re-partitions and never retrains.

    from certvae.analysis.load import load

    strict, stress = partition(load("store", "tiny_fixed_q"))  # strict may be averaged, stress is listed row by row

`Strict` cannot be built from rows with a stress case among them, and every aggregation takes `Strict` alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from certvae import quality
from certvae.certificate import FLOAT_SLACK, PAPER_TAU, WORDS
from certvae.errors import ExitCode, Fault
from certvae.quality import NO_TEACHER, PAPER_TAUS, Thresholds
from certvae.spec.goal import Goal
from certvae.spec.parts import check_tau

REPLICATE = ["study", "config", "seed", "mode", "split"]
QUALITY = (
    *("classes", "teacher_info", "teacher_top1_margin", "teacher_high_margin_share"),
    *("teacher_hard_usage_kl", "teacher_soft_usage_kl", "teacher_min_mass", "teacher_code_energy", "energy_budget"),
)
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class View:
    """All that may be changed after training.

    Args:
        tau: the safety buffer of claims, in nats.
        taus: the buffers that tables show as columns.
        goal: what configs are ordered by; its bounds on psnr_01, dB, are drawn beside margins.
        thresholds: quality control of teachers.
    """

    tau: float = PAPER_TAU
    taus: tuple[float, ...] = (0.0, *PAPER_TAUS)
    goal: Goal = Goal()
    thresholds: Thresholds = Thresholds()

    @property
    def columns(self) -> tuple[float, ...]:
        """The taus of tables, the tau of claims among them."""
        return tuple(sorted({*self.taus, self.tau}))

    @property
    def constraint(self) -> str:
        """The constraint in words."""
        if self.goal.kind == "max_kl":
            return "channel alive and head certified in every seed"
        least, loss = self.goal.psnr_floor, self.goal.psnr_drop
        floor = [] if least is None else [f"psnr_01 ≥ {least:g} dB"]
        drop = [] if loss is None else [f"psnr_01 ≥ psnr_01 of the paired reference − {loss:g} dB"]
        return " and ".join(floor + drop) or "none"


DECLARED = View()
"""The view that this project declares beforehand."""


@dataclass(frozen=True, eq=False)
class Strict:
    """Rows whose teacher passes quality control, and failed runs that count against them: what may be averaged.

    Raises:
        Refused: a stress case is among the rows, or a seed is there twice.
    """

    rows: pd.DataFrame
    thresholds: Thresholds = Thresholds()

    def __post_init__(self) -> None:
        stressed = _with_status(self.rows, self.thresholds)["teacher_status"] == "stress-case"
        if stressed.any():
            row = self.rows[stressed].iloc[0]
            raise pooling(f"{int(stressed.sum())} stress-case rows, such as seed {row['seed']}, mode {row['mode']}")
        _refuse_duplicates(self.rows)


@dataclass(frozen=True, eq=False)
class Stress:
    """Rows whose teacher misses a threshold, with the reasons in `teacher_verdict`: to be listed, never averaged.

    Raises:
        Refused: a seed is there twice.
    """

    listed: pd.DataFrame

    def __post_init__(self) -> None:
        _refuse_duplicates(self.listed)


class Partition(NamedTuple):
    """Every row of a frame, on one side or the other."""

    strict: Strict
    stress: Stress


def partition(frame: pd.DataFrame, thresholds: Thresholds = Thresholds()) -> Partition:
    """Judges every teacher anew from its stored numbers.

    A failed run has no numbers: it is judged by the rows that share its teacher. When no row knows its teacher it
    counts against the strict-feasible rows, for it must not disappear; a search that found no teacher at all is a
    stress case.

    Raises:
        Refused: a seed is there twice.
    """
    judged = _with_status(frame, thresholds)
    stressed = judged["teacher_status"] == "stress-case"
    return Partition(
        Strict(judged[~stressed], thresholds),
        Stress(judged[stressed]),
    )


def strict_rows(part: Any) -> pd.DataFrame:
    """The rows that may be averaged.

    Raises:
        Refused: for anything but `Strict`.
    """
    if isinstance(part, Strict):
        return part.rows
    raise pooling("stress-case rows" if isinstance(part, Stress) else f"a {type(part).__name__}, not yet partitioned")


def everything(parts: Partition) -> pd.DataFrame:
    """Strict and stress rows, in their first order, to be shown row by row; `teacher_status` tells them apart."""
    return pd.concat([parts.strict.rows, parts.stress.listed]).sort_index(kind="stable").reset_index(drop=True)


def with_taus(frame: pd.DataFrame, taus: Iterable[float]) -> pd.DataFrame:
    """The frame with a column `margin_tau_<tau>` = G_0 - tau per tau, nats.

    Raises:
        ConfigFault: a tau outside [0, log K).
    """
    smallest = int(frame["classes"].min()) if len(frame) else 2
    return frame.assign(**{tau_column(tau): frame["margin"] - check_tau(tau, smallest) for tau in taus})


def tau_column(tau: float) -> str:
    """The name of the column with G_tau."""
    return f"margin_tau_{tau:.2f}" if round(tau, 2) == tau else f"margin_tau_{tau:g}"


def claims(margins: pd.Series, tau: float) -> pd.Series:
    """`certified` or `not certified` for each margin G_0 at tau; `no number` where there is none."""
    words = pd.Series(WORDS[False], index=margins.index, dtype=object)
    return words.mask(margins - tau > FLOAT_SLACK, WORDS[True]).mask(margins.isna(), "no number")


def failed(frame: pd.DataFrame) -> pd.Series:
    """True for a row without a margin: the run diverged, had no teacher, or its margin is not finite."""
    return (frame["outcome"] != "ok") | frame["margin"].isna()


def candidate_verdict(line: Mapping[Any, Any], thresholds: Thresholds) -> quality.Verdict:
    """What quality control says of a candidate of a teacher search, from the numbers that were stored of it."""
    named = {f"teacher_{name}": value for name, value in line.items()}
    return quality.judge(quality.from_row({"classes": line["classes"], **named}), thresholds)


def _with_status(frame: pd.DataFrame, thresholds: Thresholds) -> pd.DataFrame:
    bare = frame.drop(columns=["teacher_status", "teacher_verdict"], errors="ignore")
    told = bare.get("energy_budget", pd.Series(index=bare.index, dtype=float))
    bare = bare.assign(energy_budget=told.fillna(bare["spec"].map(_energy_budget)).astype(float))
    measured = bare.loc[bare["teacher_info"].notna(), list(QUALITY)].drop_duplicates()
    teachers = (dict(zip(QUALITY, numbers, strict=True)) for numbers in measured.itertuples(index=False, name=None))
    verdicts = [_verdict(teacher, thresholds) for teacher in teachers]
    known = measured.assign(teacher_status=[one.status for one in verdicts], teacher_verdict=[str(v) for v in verdicts])
    judged = bare.merge(known, on=list(QUALITY), how="left").set_axis(frame.index)
    return _with_status_of_failed(judged)


def _verdict(teacher: Mapping[str, Any], thresholds: Thresholds) -> quality.Verdict:
    found = quality.judge(quality.from_row(teacher), thresholds)
    if pd.isna(teacher["energy_budget"]):
        return found
    return found.with_energy(teacher["teacher_code_energy"], teacher["energy_budget"])


def _energy_budget(spec: Any) -> float:
    """The budget of the teacher's code energy (arXiv 2605.18224), for rows that do not tell it."""
    match spec:
        case {"protocol": {"teacher": {"energy_budget": budget}}}:
            return budget
        case _:
            return float("nan")


def _with_status_of_failed(judged: pd.DataFrame) -> pd.DataFrame:
    siblings = judged.dropna(subset=["key_teacher", "teacher_status"]).drop_duplicates("key_teacher")
    by_teacher = siblings.set_index("key_teacher")
    none_found = judged["outcome"] == NO_TEACHER
    for name, absent in (("teacher_status", "stress-case"), ("teacher_verdict", "stress-case: no teacher was found")):
        column = judged[name].astype(object)
        column = column.where(column.notna(), judged["key_teacher"].map(by_teacher[name].astype(object).to_dict()))
        judged[name] = column.mask(none_found, absent).fillna(UNKNOWN)
    return judged


def _refuse_duplicates(rows: pd.DataFrame) -> None:
    twice = rows.duplicated(REPLICATE, keep=False)
    if not twice.any():
        return
    first = rows[twice].iloc[0]
    same = rows[(rows[REPLICATE] == first[REPLICATE]).all(axis=1)].astype("string")
    differing = [name for name in same.columns if same[name].nunique(dropna=False) > 1]
    raise Refused(
        f"wanted one row per study, config, seed, mode and split, found {len(same)} for seed {first['seed']}, "
        f"mode {first['mode']}, split {first['split']}; they differ in {', '.join(differing)}",
        "choose one with load(..., only={column: value})",
        where="aggregation",
        cause="a seed that counts twice is no second replication",
    )


class Refused(Fault):
    """A comparison that would mislead; the message says what to do instead."""

    area, exit_code = "COMP", ExitCode.WRONG_INPUT


def pooling(what: str) -> Refused:
    """The fault for stress cases in a mean, a minimum or a spread."""
    return Refused(
        f"wanted strict-feasible rows only, got {what}",
        "split the frame with `strict, stress = partition(frame)` and give `strict`; list `stress` beside it",
        where="aggregation",
        cause="a teacher that fails quality control makes its seed a stress case, and those are listed one by one "
        "and never pooled (arXiv 2605.05813)",
    )
