"""Before alignment starts from a dead channel: what is said, what rows keep of it, and the command that asks."""

import dataclasses
import math
import shutil

import pytest

from certvae import answers, fingerprint
from certvae.__main__ import main
from certvae.protocols import chain
from certvae.protocols.response import Awakening
from certvae.spec.control import Guard
from certvae.store.store import Store
from certvae.training import environment
from certvae.training.response import Response
from tests.small_cells import OBJECTIVE, small_cell, small_digits

DEADLY = dataclasses.replace(OBJECTIVE, alpha_kl=400.0)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A cell whose plain code is dead, its rows, and what was said while it ran."""
    folder = tmp_path_factory.mktemp("ended") / "store"
    environment.settle()
    device = fingerprint.device()
    store = Store(folder, fingerprint=environment.fingerprint(device), device=device)
    digits, heard = small_digits(folder / "data"), []
    spec = small_cell(objective=DEADLY, controller=Guard(lambda_max=1e4))
    spec = dataclasses.replace(spec, data=dataclasses.replace(spec.data, limit=240, certify_limit=60))
    trained = chain.train(spec, digits, store, said=heard.append)
    return spec, {row["mode"]: row for row in chain.judge(trained, digits, store, "guard")}, heard, folder


def awakening(response: float = 0.1, critical: float = 10.0, largest: float = 20.0) -> Awakening:
    return Awakening(Response(response, 0.0, 1.0), 8.0, critical, largest, "0" * 64)


class TestWords:
    @pytest.mark.parametrize(
        ("found", "said", "wakes"),
        [
            (awakening(), "the forecast asks for lambda_ts 10 or more at alpha_kl 8, and has up to 20", True),
            (awakening(largest=5.0), "give --objective.lambda-ts 10 or more, or let a guard find it", False),
            (awakening(critical=math.inf), "by the forecast none does at alpha_kl 8: lower it", False),
            (awakening(response=0.0), "a larger weight alone will not help; begin student-first", False),
        ],
    )
    def test_the_remedy_is_that_of_what_is_missing(self, found, said, wakes):
        assert said in found.words
        assert answers.awakens(found.columns) is wakes

    def test_of_a_network_that_was_alive_nothing_is_known(self):
        assert answers.awakens({}) is None


class TestCell:
    def test_modes_that_start_from_a_dead_channel_say_so_and_no_others(self, ended):
        _, rows, heard, _ = ended
        assert [words.partition(" starts")[0] for words in heard] == ["rescue", "guarded_rescue"]
        assert {mode for mode, row in rows.items() if "response" in row} == {"rescue", "guarded_rescue"}
        assert "has 5: give --objective.lambda-ts" in heard[0]

    def test_a_row_keeps_what_was_known(self, ended):
        _, rows, _, _ = ended
        plain, guarded = rows["rescue"], rows["guarded_rescue"]
        assert (plain["largest_weight"], guarded["largest_weight"]) == (5.0, 1e4)
        assert plain["critical_weight"] == guarded["critical_weight"] > 100
        assert (answers.awakens(plain), answers.awakens(guarded)) == (False, True)

    def test_a_healthy_start_is_not_asked(self, tmp_path):
        heard: list[str] = []
        chain.train(small_cell(), small_digits(tmp_path / "data"), Store(tmp_path / "store"), said=heard.append)
        assert heard == []


class TestCommand:
    def test_it_answers_for_a_cell_of_a_store(self, ended, capsys):
        spec, _, _, folder = ended
        assert main(["response", spec.cell[:10], "--store", str(folder)]) == 0
        assert f"no_align of seed 0, config {spec.config[:12]}: response" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [(["ffffff"], "0 cells with rows"), (["CELL", "--mode", "mine"], "mode must be a mode of a cell")],
    )
    def test_what_is_not_there_is_told(self, ended, capsys, arguments, said):
        spec, *_, folder = ended
        given = [word.replace("CELL", spec.cell) for word in arguments]
        assert main(["response", *given, "--store", str(folder)]) == 2
        assert said in capsys.readouterr().err

    def test_a_network_that_is_gone_is_not_trained_again(self, ended, tmp_path, capsys):
        spec, rows, _, folder = ended
        shutil.copytree(folder, tmp_path / "store")
        shutil.rmtree(tmp_path / "store" / "obj" / rows["no_align"]["key_trained"])
        assert main(["response", spec.cell[:10], "--store", str(tmp_path / "store")]) == 2
        assert "run the study first" in capsys.readouterr().err
