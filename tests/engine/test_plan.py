"""Before a run: counts that a real chain confirms, estimates that say what they leave out, and disk that is checked."""

import dataclasses
import io
import shutil
from collections import namedtuple

import pytest
from rich.console import Console

from certvae.cluster.slots import Slots
from certvae.engine import plan
from certvae.engine.dispatch import Cell
from certvae.engine.progress import clock
from certvae.errors import DiskFault
from certvae.protocols import chain
from certvae.spec.parts import Mlp, Training
from certvae.training import batches
from tests.small_cells import MODEL, OBJECTIVE, small_cell, small_digits

SLOTS = Slots(count=2, cpus=1, gpus=0, on="one CPU core each")


def with_lambda(value, seed=0):
    return Cell(small_cell(seed=seed, objective=dataclasses.replace(OBJECTIVE, lambda_ts=value)), ("guard",))


def ahead(cells, digits, store, slots=SLOTS):
    return plan.Ahead(cells, digits, store, slots)


def counted(works):
    return {work.step: (work.runs, work.stored, work.asked) for work in works}


def shown(*items):
    text = io.StringIO()
    Console(width=120, file=text).print(*items)
    return text.getvalue()


class TestCounts:
    def test_stages_that_cells_share_are_planned_once(self, digits, store):
        cells = [with_lambda(value, seed) for value in (1.0, 5.0) for seed in (0, 1)]
        found = counted(ahead(cells, digits, store).works)
        assert found["warm_up"] == found["teacher"] == found["no_align"] == (2, 0, 4)
        assert found["full"] == found["rescue"] == (4, 0, 4)

    def test_what_the_store_holds_is_not_planned_again(self, digits, store):
        cells = [with_lambda(1.0), with_lambda(5.0)]
        chain.train(cells[0].spec, digits, store)
        found = counted(ahead(cells, digits, store).works)
        assert found["warm_up"] == found["teacher"] == found["no_align"] == (0, 1, 2)
        assert found["full"] == found["rescue"] == (1, 1, 2)

    def test_a_planned_run_executes_what_the_plan_counts(self, digits, store):
        cells = [with_lambda(1.0), with_lambda(5.0)]
        works = ahead(cells, digits, store).works
        for cell in cells:
            chain.train(cell.spec, digits, store)
        planned = sum(work.runs for work in works if work.step != "judge")
        assert len(store.executions()) == planned

    def test_modes_that_only_some_cells_train_are_counted_for_these(self, digits, store):
        whole = with_lambda(1.0)
        lean = dataclasses.replace(with_lambda(5.0), only=("full", "no_align"))
        found = counted(ahead([lean, whole], digits, store).works)
        assert found["full"] == (2, 0, 2)
        assert found["rescue"] == (1, 0, 1)
        assert "rescue" not in counted(ahead([lean], digits, store).works)
        assert list(found) == list(chain.steps(whole.spec))

    def test_nothing_left_is_no_plan(self, digits, store):
        assert ahead([], digits, store).works == []
        assert shown(ahead([], digits, store).estimate()).strip() == "nothing is left to run"


class TestForecast:
    def test_one_line_says_where_the_weights_of_a_study_lie(self, digits, store):
        cells = [small_cell(objective=dataclasses.replace(OBJECTIVE, alpha_kl=weight)) for weight in (20.0, 0.05, 1.0)]
        said = plan.forecast(cells, digits, store)
        assert said == (
            "forecast without alignment: dead from alpha_kl 1.66 on, units expected 6 at 0.05, 3 at 1, 0 at 20"
        )
        assert plan.forecast(cells[:1], digits, store) == (
            "forecast without alignment: alpha_kl 20: a dead code expected, 12 times alpha_crit 1.66"
        )

    def test_many_weights_are_named_by_their_ends(self, digits, store):
        cells = [small_cell(objective=dataclasses.replace(OBJECTIVE, alpha_kl=0.1 * n)) for n in range(1, 20)]
        assert str(plan.forecast(cells, digits, store)).endswith("units expected 6 at 0.1 to 0 at 1.9")

    def test_a_decoder_that_sees_the_teacher_is_told_that_it_dies_sooner(self, digits, store):
        model = dataclasses.replace(MODEL, decoder_sees_teacher=True)
        assert "dead from 1.66 on; sooner, because the decoder sees the teacher" in str(
            plan.forecast([small_cell(model)], digits, store)
        )

    def test_the_spectrum_is_paid_for_once(self, digits, store):
        for _ in range(2):
            plan.forecast([small_cell()], digits, store)
        assert [event["stage"] for event in store.executions()] == ["spectrum"]


class TestEstimate:
    def test_a_step_that_nobody_timed_is_named_and_not_taken_for_free(self, digits, store):
        cells = [with_lambda(1.0)]
        text = shown(ahead(cells, digits, store).estimate())
        assert "teacher and judge beside it (never timed on this store)" in " ".join(text.split())
        assert "a probe of 8 steps" in text

    def test_times_come_from_the_store_once_it_has_seen_a_step(self, digits, store):
        chain.train(with_lambda(1.0).spec, digits, store)
        cells = [with_lambda(5.0)]
        times = ahead(cells, digits, store).times
        assert times["full"].known == times["rescue"].known == "2 runs in this store"
        seen = store.seconds("aligned")
        assert times["full"].seconds == (min(seen), sum(seen) / 2, max(seen))

    @pytest.mark.parametrize("other", ["epochs", "data", "network", "teacher"])
    def test_runs_of_another_length_tell_nothing(self, digits, store, tmp_path, other):
        """A first try of few epochs made the plan of the real run, and its warning of a day, a matter of minutes."""
        spec = with_lambda(1.0).spec
        chain.judge(chain.train(spec, digits, store), digits, store, "guard")
        data, longer = digits, dataclasses.replace(spec.training, epochs=1000)
        match other:
            case "epochs":
                spec = dataclasses.replace(spec, training=longer)
            case "data":
                data = small_digits(tmp_path, limit=100)
            case "network":
                spec = dataclasses.replace(spec, model=dataclasses.replace(MODEL, encoder=Mlp(hidden=(512,), latent=8)))
            case "teacher":
                more = dataclasses.replace(spec.protocol.teacher, initialisations=9)
                spec = dataclasses.replace(spec, protocol=dataclasses.replace(spec.protocol, teacher=more))
        times = ahead([Cell(spec, ("guard",))], data, store).times
        assert (times["full"].known == "a probe of 8 steps") == (other != "teacher")
        assert (times["teacher"].seconds is None) == (other != "epochs")
        assert (times["judge"].seconds is None) == (other in ("data", "network"))

    def test_judging_takes_as_long_as_the_stages_that_judge_every_mode(self, digits, store):
        cell = with_lambda(1.0)
        chain.judge(chain.train(cell.spec, digits, store), digits, store, "guard")
        times = ahead([cell], digits, store).times
        seen = store.seconds("judge")
        assert times["judge"].seconds == pytest.approx((3 * min(seen), 3 * sorted(seen)[1], 3 * max(seen)))

    def test_work_is_spread_over_slots_but_a_lane_is_not_cut(self):
        names = {"warm_up": "warm_up", "full": "aligned", "no_align": "no_align", "judge": "judge"}
        works = [plan.Work(step, stage, 1 if step == "warm_up" else 4, 0, 4) for step, stage in names.items()]
        times = {step: plan.Time((10, 20, 30), "") for step in names} | {"warm_up": plan.Time((1, 2, 3), "")}
        lane = {"warm_up": 1.0, "full": 1.0, "judge": 0.5}
        assert [plan.makespan(works, times, 2, lane, bound) for bound in range(3)] == [60.5, 121, 181.5]
        assert plan.makespan(works, times, 100, lane, 1) == 2 + 20 + 10

    def test_a_pool_that_is_large_enough_takes_as_long_as_the_longest_lane(self, digits, store):
        cell = Cell(small_cell(), ("guard",))
        chain.judge(chain.train(cell.spec, digits, store), digits, store, "guard")
        fresh = [with_lambda(5.0, seed=1)]
        many = ahead(fresh, digits, store, dataclasses.replace(SLOTS, count=64))
        seconds = {step: known.seconds[1] for step, known in many.times.items() if known.seconds}
        lane = [seconds[step] for step in ("warm_up", "teacher", "no_align", "rescue")]
        text = shown(many.estimate())
        judged = 2 / len(chain.modes(cell.spec)) * seconds["judge"]
        assert f"makespan on 64 slots: {clock(sum(lane) + judged)} " in text


class TestLongRuns:
    def timed(self, cells, digits, store, monkeypatch, step_seconds):
        monkeypatch.setattr(plan, "probe_step_seconds", lambda *_: step_seconds)
        return ahead(cells, digits, store).warning()

    def long(self, epochs):
        spec = small_cell(training=Training(epochs=epochs, batch_size=64))
        return [Cell(spec, ("guard",))]

    def test_more_than_a_day_is_said_before_it_starts(self, digits, store, monkeypatch):
        text = self.timed(self.long(100_000), digits, store, monkeypatch, 1.0)
        assert text.startswith("this takes about 6.9 days (")
        assert "on 2 slots" in text

    def test_a_day_or_less_is_not(self, digits, store, monkeypatch):
        assert self.timed(self.long(100_000), digits, store, monkeypatch, 0.01) is None

    def test_a_short_run_is_not_even_probed(self, digits, store, monkeypatch):
        monkeypatch.setattr(plan, "probe_step_seconds", lambda *_: pytest.fail("it was"))
        assert ahead(self.long(3), digits, store).warning() is None
        assert ahead([], digits, store).warning() is None

    def test_a_probe_takes_the_steps_of_a_run_and_leaves_no_image_on_a_device(self, digits, monkeypatch):
        """A driver that has probed lives as long as the workers, which want the memory of the first GPU."""
        timed = []
        monkeypatch.setattr(batches, "forget_uploads", lambda: timed.append(len(seconds)))
        seconds = []
        monkeypatch.setattr(plan.time, "perf_counter", lambda: seconds.append(0.25) or sum(seconds))
        assert plan.probe_step_seconds(small_cell(), digits, small_cell().training) == 0.25
        assert timed == [2 * plan.PROBE_STEPS]

    def test_hours_have_a_price(self, digits, store, monkeypatch):
        monkeypatch.setattr(plan, "probe_step_seconds", lambda *_: 3.0)
        text = shown(ahead(self.long(400), digits, store).estimate(price=2.0))
        hours = float(text.partition(" core-hours")[0].split()[-1])
        cost = float(text.partition(" core-hours")[2].partition("), ")[2].split()[0])
        assert cost == pytest.approx(2 * hours, abs=0.02)


def test_a_disk_that_is_too_small_is_refused_before_anything_runs(digits, store, monkeypatch):
    one = ahead([with_lambda(1.0)], digits, store)
    one.check_disk()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    with pytest.raises(DiskFault, match=r"0\.0 GiB are free, about .* are needed"):
        one.check_disk()
