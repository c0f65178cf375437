"""A search can be replayed: workers, their speed and kills of the driver do not enter; a changed result does."""

import dataclasses
import io
import itertools
import logging
import math
import re

import numpy as np
import optuna
import pytest
from rich.console import Console

from analysis.load import places
from certvae.canonical import plain
from certvae.data.loading import load
from certvae.engine.dispatch import Ended
from certvae.engine.gate import opened_for
from certvae.engine.propose import exhausted, propose, rebuilt, sketched, spec_of
from certvae.engine.rows import RowIndex
from certvae.engine.rule import Search, settle_rule
from certvae.engine.search import SearchCells, proposals
from certvae.engine.space import weights
from certvae.engine.summary import search_shown
from certvae.errors import ConfigFault, SearchFault
from certvae.looks.register import declare, recorded
from certvae.protocols import chain
from certvae.spec.goal import RULE, Goal
from certvae.spec.parts import Data, Training
from certvae.spec.rescue import Objective, Rescue
from certvae.store.store import Store
from sweeps import largest_kl, search_margin_psnr
from tests.simulated_pool import rows_of, run, survived

BASE = dataclasses.replace(search_margin_psnr.STUDY.preset("digits"), study="searched")
SAMPLERS = ("tpe", pytest.param("gp", marks=pytest.mark.slow), "nsga2")
SEEN = {"tpe": 14, "gp": 14, "nsga2": 40}  # NSGA-II begins to select when it has two generations of 16
SPACE = weights


def search(**changes):
    given = {
        "base": BASE,
        "space": SPACE,
        "goal": Goal(),
        "sampler": "tpe",
        "total": 14,
        "lag": 3,
        "study_seed": 0,
        "seeds": (100, 101),
        "confirmation_seeds": (200, 201, 202),
    }
    return Search(**{**given, **changes})


def _any(row):
    return True


def cells_of(found, store):
    return SearchCells(found, store, RowIndex(store.rows(BASE.study), _any, chain.modes))


def searched(found, path, workers=1, jitter=0, **how):
    store = Store(path)
    settle_rule(found, store)
    cells = cells_of(found, store)
    run(cells, workers, jitter, put=store.put_row, **how)
    return cells


def outcome(cells):
    """All that a search decided: configs, their values, and the winner."""
    judged = [cells.judged[number] for number in sorted(cells.judged)]
    return [proposal.params for proposal in cells.proposals], judged, cells.winner


def test_what_was_drawn_has_a_place_in_the_space_which_the_store_keeps(tmp_path):
    def space(trial, base):
        trial.suggest_categorical("kind", ["plain", "ramp"])
        trial.suggest_int("depth", 2, 6)
        trial.suggest_float("fixed", 1.0, 1.0)
        return SPACE(trial, base)

    cells = searched(search(space=space, total=4), tmp_path / "s")
    kept = places(tmp_path / "s", BASE.study)
    assert kept == {judged.config: judged.place for judged in cells.judged.values()}
    for spec, proposal in zip(cells.specs, cells.proposals, strict=True):
        place = kept[spec.config]
        assert 0.3 * 100 ** place["lambda_ts"] == pytest.approx(spec.protocol.objective.lambda_ts)
        assert 2 + 4 * place["depth"] == pytest.approx(proposal.params["depth"])
        assert (place["kind 'plain'"], place["kind 'ramp'"]) in ((0.0, 1.0), (1.0, 0.0))
        assert place["fixed"] == 0.0


class TestReplay:
    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_neither_the_number_of_workers_nor_their_speed_matters(self, sampler, tmp_path):
        wanted = outcome(searched(search(sampler=sampler), tmp_path / "1"))
        for workers, jitter in ((2, 1), (4, 2), (8, 3)):
            found = outcome(searched(search(sampler=sampler), tmp_path / str(workers), workers, jitter))
            assert found == wanted

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_a_driver_killed_again_and_again_proposes_the_same(self, sampler, tmp_path):
        wanted = outcome(searched(search(sampler=sampler), tmp_path / "calm"))
        found = search(sampler=sampler)
        killed = survived(lambda attempt: searched(found, tmp_path / "killed", 4, attempt, die_after=3))
        assert outcome(killed) == wanted

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_a_changed_history_changes_the_proposals(self, sampler, tmp_path):
        total = SEEN[sampler]
        cells = searched(search(sampler=sampler, total=total, lag=1), tmp_path / "s")
        told = [(proposal, cells.judged[number]) for number, proposal in enumerate(cells.proposals)]
        negated = [(one, dataclasses.replace(judged, score=-judged.score)) for one, judged in told]
        asked = [
            [
                propose(search(sampler=sampler, study_seed=seed), total, seen, [])[0].params
                for seed in range(4)  # a mutation of NSGA-II can redraw every parameter of one child
            ]
            for seen in (told, negated)
        ]
        assert asked[0] != asked[1]

    @pytest.mark.parametrize(("number", "matters"), [(10, True), (11, False)])
    def test_a_config_knows_those_that_are_as_far_back_as_the_lag_and_no_later_ones(self, number, matters, tmp_path):
        wanted = searched(search(lag=3), tmp_path / "calm")
        config = wanted.specs[number].config

        def better(cell):
            rows = rows_of(cell)
            known = {"margin": 9.0, "psnr_01": 30.0} if cell.spec.config == config else {}
            return Ended("ok", rows=[row | known if row["mode"] == "full" else row for row in rows])

        found = searched(search(lag=3), tmp_path / "s", work=better)
        assert found.proposals[:13] == wanted.proposals[:13]
        assert (found.proposals[13] != wanted.proposals[13]) == matters

    def test_the_total_grows_without_changing_what_was_proposed(self, tmp_path):
        first = outcome(searched(search(total=6), tmp_path / "s"))
        second = outcome(searched(search(total=14), tmp_path / "s", 4, 1))
        assert second[0][:6] == first[0]
        assert second == outcome(searched(search(total=14), tmp_path / "fresh"))

    def test_another_study_seed_proposes_otherwise(self, tmp_path):
        one = outcome(searched(search(), tmp_path / "a"))
        other = outcome(searched(search(study_seed=1), tmp_path / "b"))
        assert one[0] != other[0]

    def test_proposals_are_read_back_as_the_configs_they_were(self, tmp_path):
        cells = searched(search(), tmp_path / "s")
        again = [spec_of(one, search()) for one in proposals(Store(tmp_path / "s"), BASE.study)]
        assert again == cells.specs

    def test_two_objectives_are_replayed_too(self, tmp_path):
        found = search(goal=Goal(pareto=True), sampler="nsga2")
        assert outcome(searched(found, tmp_path / "a")) == outcome(searched(found, tmp_path / "b", 8, 7))


class TestFailures:
    def test_a_failed_cell_makes_its_config_incomplete_and_is_told_as_failed(self, tmp_path):
        seen = []

        def unlucky(spec):
            seen.append(spec.config)
            return spec.seed == 101 and spec.config == seen[0]

        cells = searched(search(), tmp_path / "s", fails=unlucky)
        assert cells.judged[0].outcome == "incomplete"
        study = rebuilt([(cells.proposals[0], cells.judged[0])], [], Goal())
        assert study.trials[0].state.name == "FAIL"
        assert cells.winner.config != cells.judged[0].config

    def test_a_search_that_no_config_can_win_stops_and_says_why(self, tmp_path):
        def stress(cell):
            return Ended("ok", rows=[row | {"teacher_status": "stress-case"} for row in rows_of(cell)])

        cells = searched(search(total=14), tmp_path / "s", work=stress)
        assert cells.hopeless
        assert len(cells.judged) == len(cells.proposals) == 3  # as many as are asked before the first is judged
        text = io.StringIO()
        Console(file=text, width=200).print(search_shown(cells))
        assert "3 incomplete" in text.getvalue()
        assert "no search seed has a strict-feasible teacher" in text.getvalue()

    def test_a_search_over_teachers_goes_on_where_those_of_the_base_are_stress_cases(self, tmp_path):
        def space(trial, base):
            drawn = dataclasses.replace(base.protocol.teacher, classes=trial.suggest_categorical("classes", [10, 20]))
            return SPACE(trial, dataclasses.replace(base, protocol=dataclasses.replace(base.protocol, teacher=drawn)))

        def stress(cell):
            status = "stress-case" if cell.spec.protocol.teacher == BASE.protocol.teacher else "strict-feasible"
            return Ended("ok", rows=[row | {"teacher_status": status} for row in rows_of(cell)])

        cells = searched(search(space=space), tmp_path / "s", work=stress)
        assert not cells.hopeless
        assert len(cells.judged) == 14
        assert cells.winner is not None

    def test_the_next_run_tries_a_failed_cell_again(self, tmp_path):
        searched(search(total=3), tmp_path / "s", fails=lambda spec: spec.seed == 101)
        cells = searched(search(total=3), tmp_path / "s")
        assert all(judged.outcome == "complete" for judged in cells.judged.values())

    def test_what_is_proposed_after_an_accident_is_forgotten_when_the_cell_ends_after_all(self, tmp_path):
        """A full disk fails every cell: the search that goes on must be the one that nothing had disturbed."""
        wanted = outcome(searched(search(), tmp_path / "calm"))
        disturbed = searched(search(), tmp_path / "s", fails=lambda spec: spec.seed == 101)
        assert outcome(disturbed)[0][3:] != wanted[0][3:]
        assert outcome(searched(search(), tmp_path / "s", 4, 1)) == wanted

    def test_certify_stays_closed_until_configs_that_met_an_accident_have_ended(self, tmp_path):
        """Every look costs: opened for the best of what is left, the winner's would be a second one."""
        wanted = searched(search(study_seed=3), tmp_path / "calm").winner
        started = []

        def disk_is_full(spec):
            started.append(spec)
            return len(started) > 8 and spec.seed < 200

        disturbed = searched(search(study_seed=3), tmp_path / "s", fails=disk_is_full)
        assert disturbed.winner.config != wanted.config
        assert "certify stays closed: cells of " in disturbed.refused
        assert [cell.splits for cell in disturbed.confirmed()] == [("guard",)] * 3
        assert opened_for(Store(tmp_path / "s"), BASE.study) == []
        mended = searched(search(study_seed=3), tmp_path / "s")
        assert (mended.winner, mended.refused) == (wanted, "")
        assert opened_for(Store(tmp_path / "s"), BASE.study) == [wanted.config]

    def test_an_accident_after_certify_was_opened_closes_nothing(self, tmp_path):
        store = tmp_path / "s"
        winner = searched(search(), store).winner
        lost = next(path for path in (store / "rows").rglob("*.json") if winner.config not in path.read_text())
        lost.unlink()
        again = searched(search(), store, fails=lambda spec: spec.config != winner.config)
        assert again.missing()
        assert (again.winner.config, again.refused) == (winner.config, "")

    def test_a_cell_that_always_fails_does_not_keep_a_search_from_the_same_end(self, tmp_path):
        def unlucky(spec):
            return spec.protocol.objective.lambda_ts < 2 and spec.seed == 101

        wanted = outcome(searched(search(), tmp_path / "s", fails=unlucky))
        assert outcome(searched(search(), tmp_path / "s", 4, 1, fails=unlucky)) == wanted
        assert 0 < sum(judged.outcome == "incomplete" for judged in wanted[1]) < 14

    def test_every_complete_trial_carries_every_constraint(self, tmp_path):
        goal = Goal(psnr_floor=15.0)
        cells = searched(search(goal=goal), tmp_path / "s")
        told = [(proposal, cells.judged[number]) for number, proposal in enumerate(cells.proposals)]
        for trial in rebuilt(told, [], goal).trials:
            assert set(trial.constraints) == {"psnr_drop", "psnr_floor"}

    def test_confirmation_runs_the_winner_on_fresh_seeds_with_the_certify_split(self, tmp_path):
        cells = searched(search(), tmp_path / "s")
        confirmed = cells.confirmed()
        assert [cell.spec.seed for cell in confirmed] == [200, 201, 202]
        assert all(cell.splits == ("guard", "certify") for cell in confirmed)
        opened = {row["config"] for row in Store(tmp_path / "s").rows() if row["split"] == "certify"}
        assert opened == {cells.winner.config}

    def test_a_second_winner_is_a_second_look(self, tmp_path):
        first = searched(search(total=2, study_seed=3), tmp_path / "s").winner
        cells = searched(search(total=14, study_seed=3), tmp_path / "s")
        assert cells.winner.config != first.config
        assert cells.refused == ""
        assert opened_for(Store(tmp_path / "s"), BASE.study) == sorted([first.config, cells.winner.config])

    def test_a_winner_beyond_the_looks_that_were_declared_is_confirmed_on_guard_rows(self, tmp_path):
        first = searched(search(total=2, study_seed=3), tmp_path / "s").winner
        disk = Store(tmp_path / "s").disk
        declare(disk, recorded(disk)[0], 1)
        cells = searched(search(total=14, study_seed=3), tmp_path / "s")
        assert "more claims than looks declared" in cells.refused
        assert all(cell.splits == ("guard",) for cell in cells.confirmed())
        assert opened_for(Store(tmp_path / "s"), BASE.study) == [first.config]


class TestModes:
    def test_search_cells_train_what_the_goal_reads_and_the_confirmation_trains_all(self, tmp_path):
        searched(search(total=3), tmp_path / "s")
        rows = Store(tmp_path / "s").rows()
        assert {row["mode"] for row in rows if row["seed"] < 200} == {"full", "no_align"}
        assert {row["mode"] for row in rows if row["seed"] >= 200} == {*chain.modes(BASE)}

    def test_every_mode_of_a_search_may_be_asked_for_later_and_decides_nothing_else(self, tmp_path):
        first = outcome(searched(search(total=5), tmp_path / "s"))
        again = searched(search(total=5, every_mode=True), tmp_path / "s")
        assert outcome(again) == first
        assert not again.missing()
        whole = [row for row in Store(tmp_path / "s").rows() if row["mode"] == "rescue" and row["seed"] < 200]
        assert len({row["cell"] for row in whole}) == 10
        assert outcome(searched(search(total=5), tmp_path / "s")) == first


def test_a_space_may_draw_choices_and_whole_numbers(tmp_path):
    def space(trial, base):
        found = SPACE(trial, base)
        epochs, size = trial.suggest_int("epochs", 10, 20), trial.suggest_categorical("batch", ["small", "large"])
        schedule = dataclasses.replace(base.training, epochs=epochs, batch_size=64 if size == "small" else 128)
        return dataclasses.replace(found, training=schedule)

    cells = searched(search(total=3, space=space), tmp_path / "s")
    drawn = cells.drawn(cells.winner.config)
    text = io.StringIO()
    Console(file=text, width=200).print(search_shown(cells))
    assert f"epochs {drawn['epochs']}  batch {drawn['batch']}" in text.getvalue()


def test_planning_a_search_says_nothing_of_studies_in_memory(caplog):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    logging.getLogger("optuna").addHandler(caplog.handler)
    assert len(sketched(search(total=2), [])) == 2
    logging.getLogger("optuna").removeHandler(caplog.handler)
    assert caplog.text == ""


def drawing(**choices):
    """A space of a few values of lambda_ts and alpha_kl, given as choices."""

    def space(trial, base):
        drawn = {name: trial.suggest_categorical(name, choices[name]) for name in choices}
        goal = dataclasses.replace(base.protocol.objective, **drawn)
        return dataclasses.replace(base, protocol=dataclasses.replace(base.protocol, objective=goal))

    return space


FOUR = drawing(alpha_kl=[0.5, 1.0], lambda_ts=[3.0, 10.0])


class TestFiniteSpaces:
    @pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
    def test_an_exhausted_space_ends_the_search_and_counts_each_config_once(self, sampler, tmp_path):
        """Four configs were once six judged, six feasible."""
        cells = searched(search(space=FOUR, sampler=sampler, total=60), tmp_path / "s")
        assert cells.exhausted
        assert len(cells.configs) == len({spec.config for spec in cells.specs}) == 4
        assert len(cells.proposals) < 60
        text = io.StringIO()
        Console(file=text, width=200).print(search_shown(cells))
        said = text.getvalue()
        assert "4 configs judged, 0 incomplete, 0 censored halfway" in said
        assert "the space is exhausted: it has 4 configs and no other" in said
        repeated = len(cells.proposals) - 4
        assert ("of an earlier config" in said) == bool(repeated)
        assert outcome(searched(search(space=FOUR, sampler=sampler, total=60), tmp_path / "s", 4, 1)) == outcome(cells)

    def test_a_plan_asks_for_no_more_than_there_is(self):
        assert len(sketched(search(space=FOUR, sampler="grid", total=6), [])) == 4

    def test_a_parameter_that_depends_on_another_is_asked_for_there_alone(self, tmp_path):
        def space(trial, base):
            kind = trial.suggest_categorical("kind", ["a", "b"])
            value = trial.suggest_int("value", 1, 3) if kind == "a" else 7
            goal = dataclasses.replace(base.protocol.objective, lambda_ts=float(value))
            return dataclasses.replace(base, protocol=dataclasses.replace(base.protocol, objective=goal))

        cells = searched(search(space=space, sampler="grid", total=50), tmp_path / "s")
        assert len(cells.configs) == 4

    def test_a_continuum_is_never_exhausted(self, tmp_path):
        cells = searched(search(total=4), tmp_path / "s")
        assert not exhausted(cells.proposals)
        assert not exhausted([])


class TestReadBack:
    """What is written is read back before the first cell starts: a search over tuples began and was never resumed."""

    @pytest.mark.parametrize("choice", [(8, 16), [1.0], {"a": 1}, float("nan"), b"x"])
    def test_what_a_file_cannot_hold_is_refused_by_name(self, choice, tmp_path):
        def space(trial, base):
            trial.suggest_categorical("widths", [choice, choice])
            return base

        with pytest.raises(ConfigFault, match="parameter 'widths' has the choice"):
            searched(search(space=space), tmp_path / "s")
        assert Store(tmp_path / "s").documents("proposals-searched") == {}

    def test_the_remedy_works(self, tmp_path):
        """A text that names what is meant."""
        widths = {"small": (64,), "large": (128, 64)}

        def space(trial, base):
            hidden = widths[trial.suggest_categorical("widths", list(widths))]
            encoder = dataclasses.replace(base.model.encoder, hidden=hidden)
            return dataclasses.replace(base, model=dataclasses.replace(base.model, encoder=encoder))

        cells = searched(search(space=space, total=4, sampler="grid"), tmp_path / "s")
        there = proposals(Store(tmp_path / "s"), BASE.study)
        assert [spec_of(one, search(space=space)) for one in there] == cells.specs

    @pytest.mark.parametrize("choices", [[None, 2.0], np.array([1.0, 2.0]), [np.float64(1.5), 3], [True, False]])
    def test_none_and_scalars_of_numpy_are_resumed(self, choices, tmp_path):
        def space(trial, base):
            drawn = trial.suggest_categorical("value", choices)
            goal = dataclasses.replace(base.protocol.objective, lambda_ts=float(drawn or 5.0))
            return dataclasses.replace(base, protocol=dataclasses.replace(base.protocol, objective=goal))

        first = outcome(searched(search(space=space, total=4), tmp_path / "s"))
        assert outcome(searched(search(space=space, total=4), tmp_path / "s", 4, 1)) == first

    def test_a_space_that_reads_something_else_is_refused(self, tmp_path):
        drawn = itertools.count(1)

        def space(trial, base):
            trial.suggest_float("x", 0, 1)
            goal = dataclasses.replace(base.protocol.objective, lambda_ts=float(next(drawn)))
            return dataclasses.replace(base, protocol=dataclasses.replace(base.protocol, objective=goal))

        with pytest.raises(SearchFault, match=r"another one when it is made again.*test_search\.py:\d+"):
            searched(search(space=space), tmp_path / "s")


def of_log_zero(trial, base):
    trial.suggest_float("x", low=0, high=1, log=True)
    return base


def of_nothing(trial, base):
    trial.suggest_float("x", 0, 1)


def of_another_study(trial, base):
    trial.suggest_float("x", 0, 1)
    return dataclasses.replace(base, study="other")


def of_a_continuum(trial, base):
    trial.suggest_float("x", 0, 1)
    return base


class TestErrorsOfSpaces:
    """A dry run meets what a run would meet, and the user's line is named."""

    @pytest.mark.parametrize(
        ("space", "sampler", "said"),
        [
            (
                of_log_zero,
                "tpe",
                r"of_log_zero raised ValueError: .*log=True.*test_search\.py:\d+, `trial",
            ),
            (of_nothing, "tpe", r"config 0 is no CellSpec .* NoneType.*of_nothing, .*test_search\.py:\d+"),
            (of_another_study, "tpe", "config 0 is no CellSpec of this study"),
            (of_a_continuum, "grid", r"sampler grid proposes no config 0: .*step must be given.*--sampler tpe"),
            (lambda trial, base: base[trial], "tpe", r"raised TypeError.*test_search\.py"),
        ],
    )
    def test_they_are_faults_in_a_run_and_in_a_plan(self, space, sampler, said, tmp_path):
        with pytest.raises((ConfigFault, SearchFault), match=said):
            searched(search(space=space, sampler=sampler), tmp_path / "s")
        with pytest.raises((ConfigFault, SearchFault), match=said):
            sketched(search(space=space, sampler=sampler, total=1), [])

    def test_a_base_that_our_own_space_cannot_search_is_named(self):
        base = dataclasses.replace(BASE, protocol=Rescue(objective=Objective(alpha_kl=0.0)))
        with pytest.raises(SearchFault, match="alpha_kl must be > 0 to be searched in log scale, got 0"):
            sketched(search(base=base, total=1), [])


class TestRefusals:
    def test_search_and_confirmation_seeds_must_not_overlap(self):
        with pytest.raises(SearchFault, match=r"\[101\] are both"):
            search(confirmation_seeds=(101, 300))

    @pytest.mark.parametrize("goal", [Goal(mode="ful"), Goal(reference="vae")])
    def test_a_goal_on_a_mode_that_no_cell_trains_is_refused(self, goal):
        with pytest.raises(SearchFault, match=f"{'ful' if goal.mode == 'ful' else 'vae'}, and a cell trains full"):
            search(goal=goal)

    @pytest.mark.parametrize(
        ("change", "there"),
        [
            ({"lag": 4}, "lag (3 there, 4 here)"),
            ({"study_seed": 9}, "study_seed (0 there, 9 here)"),
            ({"sampler": "gp"}, "sampler (tpe there, gp here)"),
            ({"seeds": (1, 2)}, "seeds ([100, 101] there, [1, 2] here)"),
            ({"early_stop": 0.9}, "early_stop (None there, 0.9 here)"),
            ({"race": 0.9}, "race (None there, 0.9 here)"),
        ],
    )
    def test_a_store_of_another_rule_is_named_and_that_rule_goes_on(self, change, there, tmp_path):
        store = Store(tmp_path / "s")
        settle_rule(search(), store)
        with pytest.raises(SearchFault, match=re.escape(f"differs in {there}")):
            settle_rule(search(**change), store)
        settle_rule(search(), store)

    def test_a_search_from_before_certainties_goes_on_by_means_alone(self, tmp_path):
        store, rule = Store(tmp_path / "s"), plain(search(goal=Goal(certainty=0.5)).rule())
        del rule["goal"]["certainty"]
        store.put_document(RULE, BASE.study, rule)
        settle_rule(search(goal=Goal(certainty=0.5)), store)
        with pytest.raises(SearchFault, match="differs in goal"):
            settle_rule(search(), store)

    def test_a_space_that_draws_an_invalid_spec_names_the_draw_and_the_field(self, tmp_path):
        def bad(trial, base):
            goal = Objective(lambda_ts=trial.suggest_float("lambda_ts", -2, -1))
            return dataclasses.replace(base, protocol=Rescue(objective=goal))

        with pytest.raises(SearchFault, match=r"config 0 .*lambda_ts must be .*"):
            searched(search(space=bad), tmp_path / "s")

    def test_an_edited_space_does_not_give_earlier_proposals_another_meaning(self, tmp_path):
        searched(search(total=3), tmp_path / "s")

        def edited(trial, base):
            found = SPACE(trial, base)
            doubled = dataclasses.replace(found.protocol.objective, alpha_kl=2 * found.protocol.objective.alpha_kl)
            return dataclasses.replace(found, protocol=dataclasses.replace(found.protocol, objective=doubled))

        with pytest.raises(SearchFault, match="the space of the study was edited"):
            searched(search(total=3, space=edited), tmp_path / "s")


class TestLargestKl:
    """Where a code survives up to a KL weight, that weight is found, and shown in its own unit."""

    goal = Goal(kind="max_kl", mode="full", psnr_drop=None)

    def searched(self, store, crit, work=None):
        base = dataclasses.replace(largest_kl.STUDY.preset("digits"), study="searched")
        found = search(base=base, space=largest_kl.space, goal=self.goal, total=24)
        settle_rule(found, store)
        cells = SearchCells(found, store, RowIndex([], _any, chain.modes))

        def survives(cell):
            weight = cell.spec.protocol.objective.alpha_kl
            bounds = {"alpha_kl": weight, "kl_rate": 1.0, "population_bound": 1.0}
            bounds |= {"sampled_population_bound": math.tanh(math.log(crit / weight))}
            return Ended("ok", rows=[{**row, **bounds} for row in rows_of(cell)])

        run(cells, 1, 0, put=store.put_row, work=work or survives)
        return cells

    def test_it_is_found_and_confirmed(self, tmp_path):
        cells = self.searched(Store(tmp_path / "store"), crit=5.8)
        assert cells.winner is not None
        assert 4.0 < cells.winner.score < 5.8
        feasible = [one.score for one in cells.configs if one.feasible]
        assert cells.winner.score == max(feasible)
        said = self.shown(cells)
        assert f"alpha_kl {cells.winner.score:.4g} over n = 2 strict-feasible search seeds" in said
        assert "held against 3 fresh seeds (guard split): alive and certified in all of them" in said
        assert "Pareto front of alpha_kl and PSNR" in said
        assert " nats" in cells.headline()
        assert "dB" not in cells.headline()

    def test_where_no_code_survives_nothing_wins(self, tmp_path):
        cells = self.searched(Store(tmp_path / "store"), crit=0.01)
        assert cells.winner is None
        assert "nothing feasible." in self.shown(cells)

    def test_it_cannot_be_stopped_early(self):
        with pytest.raises(SearchFault, match="leave --early-stop away"):
            search(goal=self.goal, early_stop=0.9)

    def shown(self, cells):
        text = io.StringIO()
        Console(width=200, file=text).print(search_shown(cells))
        return text.getvalue()

    @pytest.mark.slow
    def test_trained_codes_are_alive_below_the_winner_and_not_above(self, tmp_path):
        store = Store(tmp_path / "store")
        digits = load(Data(name="digits"), cache=tmp_path / "data", progress=False)
        pace = Training(epochs=15, batch_size=64)
        whole = largest_kl.STUDY.preset("digits")
        protocol = dataclasses.replace(
            whole.protocol, warm_up=dataclasses.replace(whole.protocol.warm_up, training=pace), controls=()
        )
        base = dataclasses.replace(whole, study="searched", protocol=protocol, training=pace)
        found = search(base=base, space=largest_kl.space, goal=self.goal, total=5, lag=1, seeds=(0,))
        found = dataclasses.replace(found, confirmation_seeds=(1,), sampler="random", study_seed=1)

        def work(cell):
            trained = chain.train(cell.spec, digits, store, only=cell.only)
            judged = (chain.judge(trained, digits, store, split) for split in cell.splits)
            return Ended("ok", rows=[row for rows in judged for row in rows])

        settle_rule(found, store)
        cells = SearchCells(found, store, RowIndex([], _any, chain.modes))
        run(cells, 1, 0, put=store.put_row, work=work)
        assert cells.winner is not None
        above = [one for one in cells.configs if one.score > cells.winner.score]
        assert above
        assert not any(one.feasible for one in above)
        (crit,) = {row["alpha_crit"] for row in store.rows() if row["mode"] == "full" and row["seed"] == 0}
        assert cells.winner.score < 1.1 * crit
