"""From the default to the winner: every step is a change of one field, in the order that gains most, on fresh seeds."""

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from certvae.engine.ablation import Ablation, changes
from certvae.engine.rows import RowIndex
from certvae.errors import SearchFault
from certvae.protocols import chain
from certvae.spec.fields import replaced
from certvae.spec.goal import Goal
from certvae.spec.parts import Conv
from certvae.store.store import Store
from tests.engine.test_search import BASE, _any, search, searched
from tests.simulated_pool import run


def changed(**fields):
    made = BASE
    for name, value in fields.items():
        made = replaced(made, f"objective.{name}", value)
    return made


def walked(winner, store, **how):
    path = Ablation(search(goal=Goal(psnr_drop=5.0)), winner, RowIndex(store.rows(BASE.study), _any, chain.modes))
    ran = run(path, 3, 1, put=store.put_row, **how)
    return path, ran


def said(path):
    text = io.StringIO()
    Console(file=text, width=200).print(path.shown())
    return text.getvalue()


BETTER = changed(lambda_ts=25.0, alpha_kl=1.5)
"""The pool's margin hardly grows with lambda_ts from here, and falls with the logarithm of alpha_kl."""


class TestPath:
    def test_the_change_that_gains_most_comes_first(self, tmp_path):
        path, ran = walked(BETTER, Store(tmp_path / "s"))
        assert sorted(step.change for step in path.path) == ["", "objective.alpha_kl", "objective.lambda_ts"]
        scores = [step.judged.score for step in path.path]
        first, second = np.diff(scores)
        assert first > second
        assert path.path[-1].spec.config == BETTER.config
        assert ran == 3 * 4  # the default, two changes alone, and the winner, on three seeds

    def test_what_a_change_bought_is_told_with_its_error_and_the_caveat(self, tmp_path):
        path, _ = walked(BETTER, Store(tmp_path / "s"))
        text = said(path)
        gains = [step.judged.score for step in path.path]
        assert f"{gains[1] - gains[0]:+.4g}" in text
        assert f"objective.lambda_ts {BASE.protocol.objective.lambda_ts:g} -> 25" in text
        assert "default" in text
        assert "a search chose these changes" in text

    def test_a_change_from_none_names_it(self, tmp_path):
        path, _ = walked(changed(lambda_active=0.5), Store(tmp_path / "s"))
        assert "objective.lambda_active None -> 0.5" in said(path)

    def test_it_resumes_and_opens_no_certify_rows(self, tmp_path):
        store = Store(tmp_path / "s")
        first, _ = walked(BETTER, store)
        again, ran = walked(BETTER, store)
        assert (ran, said(again)) == (0, said(first))
        assert {row["split"] for row in store.rows()} == {"guard"}

    def test_the_winner_of_a_search_is_not_run_again(self, tmp_path):
        found = searched(search(), tmp_path / "s")
        store, winner = Store(tmp_path / "s"), found.spec(found.winner.config)
        before = {row["cell"] for row in store.rows()}
        path, ran = walked(winner, store)
        assert path.path[-1].spec.config == winner.config
        assert ran == 3 * 3  # the default, and two changes alone
        assert len({row["cell"] for row in store.rows()} - before) == ran

    def test_a_config_that_fails_says_so_and_is_missing(self, tmp_path):
        path, _ = walked(BETTER, Store(tmp_path / "s"), fails=lambda spec: spec.config == BASE.config)
        assert "seed 200: no result" in said(path)
        assert {cell.spec.config for cell in path.missing()} == {BASE.config}

    def test_a_default_that_wins_is_a_path_of_itself(self, tmp_path):
        path, ran = walked(BASE, Store(tmp_path / "s"))
        assert ([step.change for step in path.path], ran) == ([""], 3)


def test_a_part_of_another_kind_is_no_step(tmp_path):
    other = dataclasses.replace(BASE, model=dataclasses.replace(BASE.model, encoder=Conv()))
    with pytest.raises(SearchFault, match="in more than values of fields"):
        changes(BASE, other)
