"""The graph of a cell of the simplex witness, as calls of `call(step, stage, *inputs)` (arXiv 2605.18224).

teacher                                    before any network exists, and it never reads one
initial                                 -> rst
           -> prefit, alpha_prefit      -> rst_prefit, rst_alpha_prefit
           -> collapsed, low_prefit     -> escape_collapsed, escape_prefit
vae        a mode by itself             -> escape_vae

All aligned modes minimise the same objective and differ by their start alone. What other cells of a sweep may share
comes first: no start depends on lambda_ts, and none but vae on alpha_kl.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from certvae import stages, witness
from certvae.data import Dataset
from certvae.quality import Verdict, from_row, judge
from certvae.spec import CellSpec, Data, Objective, SimplexHead, Training
from certvae.witness_specs import ESCAPES, Labels, PcaGmm, Witness, WitnessMode

Call = Callable[..., Any]
START: dict[WitnessMode, str] = {
    "vae": "vae",
    "rst": "initial",
    "rst_prefit": "prefit",
    "rst_alpha_prefit": "alpha_prefit",
    "escape_collapsed": "collapsed",
    "escape_vae": "vae",
    "escape_prefit": "low_prefit",
}
STARTS = ("initial", "vae", "prefit", "alpha_prefit", "low_prefit", "collapsed")


def steps(protocol: Witness) -> tuple[str, ...]:
    """What a cell does, in order: teacher, starts, the networks that leave them, judge."""
    needed = {"initial", *(START[mode] for mode in protocol.modes)}
    left = tuple(mode for mode in protocol.modes if mode != "vae")
    return ("teacher", *(step for step in STARTS if step in needed), *left, "judge")


def schedules(spec: CellSpec, protocol: Witness) -> dict[str, Training]:
    """The training schedule of each step that passes over the train rows."""
    known = dict.fromkeys((mode for mode in protocol.modes if mode not in ESCAPES), spec.training)
    prefits = [step for step in steps(protocol) if step in ("prefit", "alpha_prefit", "low_prefit")]
    return known | dict.fromkeys(prefits, _prefit_schedule(spec, protocol))


def walk(spec: CellSpec, protocol: Witness, dataset: Dataset | Data, call: Call) -> tuple[Any, dict[str, Any]]:
    """The teacher, and the networks by mode in the order of tables."""
    teacher = _teacher(spec, protocol, dataset, call)
    found = _starts(spec, protocol, dataset, call, teacher)
    given = (spec.training, spec.seed)
    goal, model = objective(protocol), spec.model
    networks = {}
    for mode in protocol.modes:
        start = found[START[mode]]
        if mode == "vae":
            networks[mode] = start
        elif mode in ESCAPES:
            watched = (replace(goal, kl_ramp_epochs=0), protocol.escape.steps_per_point)
            schedule = replace(spec.training, epochs=protocol.escape.points, report_every=1)
            networks[mode] = call(mode, witness.escape, dataset, model, *watched, schedule, spec.seed, start, teacher)
        else:
            networks[mode] = call(mode, stages.aligned, dataset, model, goal, *given, start, teacher)
    return teacher, networks


def objective(protocol: Witness) -> Objective:
    """L_rec + alpha_kl L_KL + lambda_ts L_TS: this paper has no balance term."""
    return Objective(
        alpha_kl=protocol.alpha_kl,
        lambda_ts=protocol.lambda_ts,
        lambda_bal=0.0,
        kl_ramp_epochs=protocol.kl_ramp_epochs,
    )


def hyper_parameters(spec: CellSpec, protocol: Witness, mode: str) -> dict[str, float | None]:
    """The weights that searches vary; None where a mode does not have one."""
    scales = {"rst_prefit": 1.0, "rst_alpha_prefit": protocol.prefit.scale, "escape_prefit": protocol.escape.low_scale}
    return {
        "alpha_kl": protocol.alpha_kl,
        "lambda_ts": 0.0 if mode == "vae" else protocol.lambda_ts,
        "lambda_bal": 0.0,
        "beta": spec.model.head.beta if isinstance(spec.model.head, SimplexHead) else None,
        "prefit_scale": scales.get(mode),
    }


def verdict(teacher: Labels | PcaGmm, facts: dict[str, Any]) -> Verdict:
    """Quality control of a row's teacher numbers, and for a mixture its energy budget."""
    found = judge(from_row(facts), teacher.thresholds)
    match teacher:
        case PcaGmm(energy_budget=budget):
            return found.with_energy(facts["teacher_code_energy"], budget)
        case Labels():
            return found


def _teacher(spec: CellSpec, protocol: Witness, dataset: Dataset | Data, call: Call) -> Any:
    match protocol.teacher:
        case Labels():
            return call("teacher", witness.labels_teacher, dataset, protocol.teacher)
        case PcaGmm():
            return call("teacher", witness.pca_teacher, dataset, protocol.teacher, spec.seed)


def _starts(spec: CellSpec, protocol: Witness, dataset: Dataset | Data, call: Call, teacher: Any) -> dict[str, Any]:
    model, seed, needed = spec.model, spec.seed, steps(protocol)
    found = {"initial": call("initial", witness.initial, dataset, model.encoder, seed)}
    if "vae" in needed:
        plain = objective(protocol).unaligned()
        found["vae"] = call("vae", witness.vae, dataset, model.encoder, model.likelihood, plain, spec.training, seed)
    scales = {"prefit": 1.0, "alpha_prefit": protocol.prefit.scale, "low_prefit": protocol.escape.low_scale}
    for step in (step for step in needed if step in scales):
        fitted = (scales[step], protocol.prefit.rest_weight, _prefit_schedule(spec, protocol))
        found[step] = call(step, witness.prefit, dataset, model, *fitted, seed, found["initial"], teacher)
    if "collapsed" in needed:
        found["collapsed"] = call("collapsed", witness.collapsed, found["initial"])
    return found


def _prefit_schedule(spec: CellSpec, protocol: Witness) -> Training:
    return replace(spec.training, epochs=protocol.prefit.epochs, learning_rate=protocol.prefit.learning_rate)
