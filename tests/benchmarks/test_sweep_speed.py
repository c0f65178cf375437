"""What a sweep costs besides its stages: idle slots, Ray Tune's share of a trial, and questions to a large store.

Figures are ratios to something measured in the same run; seconds are printed, and those of a single process are of the
processor, so that other work on the machine does not count.
"""

import itertools
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FixedTrial

from certvae import fingerprint
from certvae.cluster.slots import Place, Slots
from certvae.data.loading import load
from certvae.engine import executor  # before Ray itself: it settles what Ray reads when it is imported
from certvae.engine.dispatch import Cell, Dispatcher, Ended, Listed, Listener
from certvae.engine.gate import Gate
from certvae.engine.propose import Proposal
from certvae.engine.rule import CONFIRMED, SEARCHED
from certvae.engine.space import weights as space
from certvae.looks import together
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.goal import proposed_kind
from certvae.spec.presets import rescue
from certvae.spec.rescue import Rescue
from certvae.store.store import Store
from certvae.tracking.ledger import Watermark
from certvae.tracking.uri import database
from certvae.training import environment
from tests.benchmarks.trivial import trivial
from tests.simulated_pool import undivided

SLOTS = Slots(2, 1.0, 0.0, "one CPU core each")
REPOSITORY = Path(__file__).parents[2]
STUDY = "search_margin_psnr-digits"


class Clock(Listener):
    """When cells ended."""

    def __init__(self) -> None:
        self.ended_at: list[float] = []

    def over(self, cell: Cell, ended: Ended) -> None:
        assert ended.kind == "ok", ended
        self.ended_at.append(time.monotonic())


def first_start(store: Store) -> list[float]:
    """Becomes the moment at which the first stage starts: a list, since it lies ahead."""
    found: list[float] = []

    def watch() -> None:
        while not (store.path / "log" / "starts.jsonl").exists():
            time.sleep(0.005)
        found.append(time.monotonic())

    threading.Thread(target=watch, daemon=True).start()
    return found


def digits(seed: int, lambda_ts: float) -> CellSpec:
    """A cell of 20 epochs per mode: two to three seconds, half a second of them shared with the others of its seed."""
    base = rescue("digits")
    assert isinstance(base.protocol, Rescue)
    short = replace(base.training, epochs=20)
    protocol = replace(
        base.protocol,
        warm_up=replace(base.protocol.warm_up, training=short),
        objective=replace(base.protocol.objective, lambda_ts=lambda_ts),
    )
    return replace(base, study="makespan", seed=seed, training=short, protocol=protocol)


@pytest.mark.slow
def test_two_slots_are_busy_with_stages(tmp_path, capsys):
    """64 cells, 16 seeds with four lambda_ts each: what a seed shares runs 16 times, what aligns 64 times.

    Slots that wait for a shared stage, the last cell alone on its slot, dispatching, rows and reports all count as
    overhead: the makespan runs from the start of the first stage to the end of the last cell. Measured on two cores at
    a load of 7 to 13: 145.7 s for 284.3 s of stages, 1.025 times their share; on quiet cores 94.2 s, 1.029 times.
    """
    environment.settle()
    store = Store(tmp_path / "store")
    place = Place(str(store.path), None, str(store.path / "data"))
    cells = [Cell(digits(seed, weight), SEARCHED) for seed in range(16) for weight in (1.0, 2.0, 4.0, 8.0)]
    load(cells[0].spec.data, cache=Path(place.cache), progress=False)
    clock, started = Clock(), first_start(store)
    executor.run(Dispatcher(Listed(cells), chain.shared, chain.lanes, (clock,)), place, SLOTS)
    executions = store.executions()
    shared, aligned = ("warm_up", "teacher", "no_align", "untrained"), ("full", "rescue", "head_only")
    judged, forecast = 16 * 2 + 64 * len(aligned), 1
    wanted = 16 * len(shared) + 64 * len(aligned) + judged + forecast
    assert len({event["key"] for event in executions}) == len(executions) == wanted
    makespan, stages = clock.ended_at[-1] - started[0], sum(event["seconds"] for event in executions)
    ratio = makespan / (stages / SLOTS.count)
    with capsys.disabled():
        print(f"\n64 cells on 2 slots: {makespan:.1f} s, stages {stages:.1f} s; {ratio:.3f} times their share")
    assert ratio <= 1.10


TRIALS = 1000
PLAIN = """
import sys
import time
import ray
from ray import tune

class Ends(tune.Callback):
    at = []

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.at.append(time.monotonic())

def trivial(config):
    tune.report({"ended": 1})

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[1])
tune.Tuner(
    tune.with_resources(trivial, {"cpu": 1}),
    tune_config=tune.TuneConfig(num_samples=int(sys.argv[2]), reuse_actors=True, max_concurrent_trials=2),
    run_config=tune.RunConfig(storage_path=sys.argv[1] + "/tune", callbacks=[Ends()], verbose=0),
).fit()
print((len(Ends.at) - 1) / (Ends.at[-1] - Ends.at[0]))
"""


def plain_rate(folder: Path) -> float:
    """Trials per second of a function trainable that knows nothing of cells, between the first end and the last."""
    told = subprocess.run(
        [sys.executable, "-c", PLAIN, str(folder), str(TRIALS)],
        cwd=REPOSITORY,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=500,
    )
    return float(told.stdout.split()[-1])


@pytest.mark.slow
def test_a_thousand_trivial_cells_cost_what_plain_trials_cost(tmp_path_factory, capsys):
    """Actors are reused and no logger runs in either; cells have their dispatcher, their listeners and a reason.

    Measured on two quiet cores: 115 cells a second, 156 plain trials a second; at a load of 16 to 21: 31 and 36.
    """
    folder = tmp_path_factory.mktemp("p")
    plain = plain_rate(folder)
    base, clock = CellSpec(study="trivial"), Clock()
    source = Listed([Cell(replace(base, seed=seed)) for seed in range(TRIALS)])
    hub = Dispatcher(source, lambda spec, only: {}, undivided, (clock,))  # noqa: ARG005 - nothing is shared here
    executor.run(hub, Place(str(folder), None, str(folder)), SLOTS, work=trivial)
    cells = (TRIALS - 1) / (clock.ended_at[-1] - clock.ended_at[0])
    with capsys.disabled():
        print(f"\n{TRIALS} trivial cells: {cells:.1f} a second; plain Ray Tune: {plain:.1f} trials a second")
    assert cells > 0.7 * plain


CONFIGS, SEEDS, FRESH = 1100, (100, 101, 102), (200, 201, 202, 203, 204)
THREE = ("full", "no_align", "rescue")
QUESTION = """
import sys, time
began = time.process_time()
from certvae.engine import run as flow
from certvae.engine.main import main
from sweeps.search_margin_psnr import STUDY
imported = time.process_time()
from certvae.store.store import Store
store = Store(sys.argv[2])
reading = time.process_time()
store.rows(sys.argv[1])
asked = time.process_time()
code = main(STUDY, sys.argv[3:] + ["--store", sys.argv[2]])
figures = [imported - began, asked - reading, time.process_time() - asked]
print("\\nfigures", code, *figures, "ray" in sys.modules, "mlflow" in sys.modules)
"""


def ask(store: Path, *more: str) -> tuple[float, float, float]:
    """Seconds of the processor in a process of its own: imports, reading the rows once, the whole answer."""
    options = ("--data", "digits", "--search", str(CONFIGS), "--sampler", "random", *more)
    told = subprocess.run(
        [sys.executable, "-c", QUESTION, STUDY, str(store), *options],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=500,
    )
    _, code, imports, reading, answer, *modules = told.stdout.splitlines()[-1].split()
    assert (code, modules) == ("0", ["False", "False"]), told.stdout
    return float(imports), float(reading), float(answer)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished search of 1,100 configs: one real cell, and its rows with other names and margins."""
    environment.settle()
    made_in = environment.fingerprint(fingerprint.device())
    store = Store(tmp_path_factory.mktemp("large") / "store", fingerprint=made_in)
    base = replace(rescue("digits"), study=STUDY)
    rows = real_rows(store, base)
    for number in range(CONFIGS):
        spec = propose(store, base, number)
        for seed, mode in itertools.product(SEEDS, THREE):
            row = rows[mode]
            store.put_row(renamed(row, replace(spec, seed=seed), "guard", (mode == "full") / (1 + number)))
        if number == 0:  # the margins fall with the number, so this is the winner
            for seed, split, row in itertools.product(FRESH, CONFIRMED, rows.values()):
                store.put_row(renamed(row, replace(spec, seed=seed), split, 0.0))
            Gate(store, base.data.name).open([spec])
    show(store)
    return store.path


def show(store: Store) -> None:
    """Marks the ledger as complete: to write 14,000 runs takes minutes, and `test_ledger_speed` measures it."""
    database(store).touch()
    Watermark(store, STUDY, database(store), together(store.disk, store.rows(STUDY))).put(0)


def real_rows(store: Store, base: CellSpec) -> dict[str, dict]:
    """Rows by mode of a cell of one epoch."""
    assert isinstance(base.protocol, Rescue)
    short = replace(base.training, epochs=1)
    protocol = replace(base.protocol, warm_up=replace(base.protocol.warm_up, training=short))
    spec = replace(base, training=short, protocol=protocol)
    dataset = load(spec.data, cache=store.path / "data", progress=False)
    judged = chain.judge(chain.train(spec, dataset, store), dataset, store, "guard")
    return {row["mode"]: {**row, "teacher_status": "strict-feasible", "psnr_01": 20.0} for row in judged}


def propose(store: Store, base: CellSpec, number: int) -> CellSpec:
    """A published proposal, as a sampler without memory would make it."""
    params = {"alpha_kl": 0.01 + 1e-5 * number, "lambda_ts": 1.0 + 1e-3 * number}
    kinds = {"alpha_kl": FloatDistribution(0.005, 0.5, log=True), "lambda_ts": FloatDistribution(0.3, 30.0, log=True)}
    proposal = Proposal(number, params, dict(kinds), {})
    spec = space(FixedTrial(params), base)
    body = {**proposal.body(), "config": spec.config, "stop": None}
    store.put_document(proposed_kind(base.study), f"{number:06d}", body)
    return spec


def renamed(row: dict, spec: CellSpec, split: str, more: float) -> dict:
    """The row of another cell."""
    named = {"cell": spec.cell, "config": spec.config, "seed": spec.seed, "split": split}
    return {**row, **named, "margin": row["margin"] + more}


@pytest.mark.slow
def test_ten_thousand_rows_are_asked_in_a_few_times_what_reading_them_takes(finished, capsys):
    """9,950 rows of 1,100 configs. Nothing of it imports Ray or MLflow.

    A resumed search imports torch, for its sampler and for the bundle of its winner, and judges every config again.
    """
    for question in (("--plan",), ("--status",), ()):
        imports, reading, answer = ask(finished, *question)
        with capsys.disabled():
            name = "".join(question) or "resume"
            print(f"\n{name}: {answer:.2f} s, reading the rows {reading:.2f} s, imports {imports:.2f} s", end="")
        assert answer < (5 if question else 10) * reading, question
