"""The gate of the certify split: a study declares once which configs may look."""

import pytest

from certvae.engine.gate import open_certify, opened_for
from certvae.errors import StoreFault
from certvae.store.store import Store

FIRST, SECOND, THIRD = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def test_every_declared_config_is_a_look_to_pay_for(store):
    assert open_certify(store, "one", (FIRST,)) == 1
    assert open_certify(store, "three", (FIRST, SECOND, THIRD)) == 3


def test_repeating_a_declaration_is_how_a_run_resumes(store):
    assert open_certify(store, "study", (FIRST, SECOND)) == 2
    again = Store(store.path)
    assert open_certify(again, "study", (SECOND, FIRST, SECOND)) == 2


@pytest.mark.parametrize("later", [(SECOND,), (FIRST, SECOND), ()])
def test_other_configs_are_refused_with_both_names(store, later):
    open_certify(store, "study", (FIRST,))
    with pytest.raises(
        StoreFault, match=r"E-STORE: the certify split of study 'study' was opened for config a{12},"
    ) as caught:
        open_certify(store, "study", later)
    assert all(config[:12] in str(caught.value) for config in later)
    assert "--study NAME" in str(caught.value)
    assert open_certify(store, "study", (FIRST,)) == 1


def test_it_can_be_asked_without_opening_it(store):
    assert opened_for(store, "study") == []
    open_certify(store, "study", (SECOND, FIRST))
    assert opened_for(store, "study") == [FIRST, SECOND]


def test_studies_have_gates_of_their_own(store):
    open_certify(store, "first", (FIRST,))
    assert open_certify(store, "second", (SECOND,)) == 1


def test_of_many_configs_three_are_named(store):
    open_certify(store, "study", tuple(f"{number:064d}" for number in range(5)))
    with pytest.raises(StoreFault, match=r"5 configs \(0{12}, 0{12}, 0{12}, \.\.\.\)"):
        open_certify(store, "study", (FIRST,))


def test_of_two_processes_that_open_it_at_once_the_second_is_refused(store, monkeypatch):
    """The declaration is published once, whatever was there when a process looked."""

    def nothing_yet(kind: str, name: str) -> None:
        return None

    other = Store(store.path)
    open_certify(other, "study", (FIRST,))
    monkeypatch.setattr(store, "get_document", nothing_yet)
    with pytest.raises(StoreFault):
        open_certify(store, "study", (SECOND,))
    document = other.get_document("gate", "study")
    assert document is not None
    assert document["configs"] == [FIRST]


@pytest.mark.parametrize("loss", ["damaged", "deleted"])
def test_a_lost_declaration_does_not_open_the_gate_for_another_config(store, loss):
    """The rows that it let through still say who looked."""
    open_certify(store, "study", (FIRST,))
    row = {"study": "study", "cell": "d" * 64, "config": FIRST, "seed": 0, "mode": "full", "split": "certify"}
    store.put_row(row)
    path = store.path / "plan" / "gate" / "study.json"
    path.unlink() if loss == "deleted" else path.write_text("{}")
    with pytest.raises(StoreFault, match=r"was opened for config a{12}"):
        open_certify(store, "study", (SECOND,))
    assert open_certify(store, "study", (FIRST,)) == 1
