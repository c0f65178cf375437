"""Samplers by name and of one's own: `auto` depends on a config's number alone, and what is brought can be replayed."""

import textwrap

import pytest

from certvae.canonical import plain
from certvae.engine import samplers
from certvae.engine.command import parse
from certvae.engine.rule import going_on, settle_rule
from certvae.engine.samplers import NAMES, check_sampler, sampler_of
from certvae.errors import ConfigFault, SearchFault
from certvae.spec.goal import RULE
from certvae.store.store import Store
from sweeps import search_margin_psnr
from tests.engine.test_search import outcome, search, searched


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, text):
    path.write_text("import optuna, random\n" + textwrap.dedent(text))


class TestAuto:
    def test_is_gp_and_then_tpe(self):
        kinds = [type(sampler_of("auto", number, 0)).__name__ for number in (0, 199, 200, 5000)]
        assert kinds == ["GPSampler", "GPSampler", "TPESampler", "TPESampler"]

    def test_a_search_that_grows_past_the_change_proposes_as_one_that_did_not(self, tmp_path, monkeypatch):
        monkeypatch.setattr(samplers, "GP_CONFIGS", 13)
        first = outcome(searched(search(sampler="auto", total=12), tmp_path / "s"))
        grown = outcome(searched(search(sampler="auto", total=15), tmp_path / "s", 4, 1))
        assert grown[0][:12] == first[0]
        assert grown == outcome(searched(search(sampler="auto", total=15), tmp_path / "fresh"))

    def test_a_search_that_began_with_another_sampler_keeps_it(self, tmp_path):
        store = Store(tmp_path / "s")
        assert going_on(search(sampler="auto"), store).sampler == "auto"
        settle_rule(search(sampler="tpe"), store)
        assert going_on(search(sampler="auto"), store).sampler == "tpe"
        with pytest.raises(SearchFault, match=r"differs in sampler \(tpe there, gp here\)"):
            settle_rule(going_on(search(sampler="gp"), store), store)

    def test_a_search_that_began_before_configs_were_judged_together_goes_on_without(self, tmp_path):
        store, asked = Store(tmp_path / "s"), search()
        rule = plain(asked.rule())
        store.put_document(
            RULE, asked.base.study, rule | {"goal": {n: v for n, v in rule["goal"].items() if n != "pooled"}}
        )
        assert asked.goal.pooled
        assert not going_on(asked, store).goal.pooled
        settle_rule(going_on(asked, store), store)

    def test_is_what_a_command_line_asks_for_when_it_says_nothing(self):
        assert parse(search_margin_psnr.STUDY, ["--data", "digits"])[0].sampler == "auto"


class TestOwn:
    def test_it_is_replayed(self, folder):
        write(folder / "seeded.py", "def mine(seed): return optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)")
        wanted = outcome(searched(search(sampler="seeded:mine"), folder / "1"))
        assert outcome(searched(search(sampler="seeded:mine"), folder / "4", 4, 2)) == wanted
        assert wanted[0] != outcome(searched(search(sampler="tpe"), folder / "tpe"))[0]

    def test_a_class_of_optuna_is_named_as_it_is(self, tmp_path):
        named = searched(search(sampler="optuna.samplers:TPESampler"), tmp_path / "named")
        assert outcome(named) == outcome(searched(search(sampler="tpe"), tmp_path / "tpe"))

    def test_its_text_belongs_to_the_rule(self, folder):
        text = "def mine(seed): return optuna.samplers.RandomSampler(seed=seed)"
        write(folder / "edited.py", text)
        store = Store(folder / "s")
        settle_rule(search(sampler="edited:mine"), store)
        assert going_on(search(sampler="auto"), store).sampler == "edited:mine"
        write(folder / "edited.py", text + "  # changed")
        with pytest.raises(SearchFault, match="differs in sampler"):
            settle_rule(search(sampler="edited:mine"), store)
        write(folder / "edited.py", text)
        settle_rule(search(sampler="edited:mine"), store)

    @pytest.mark.parametrize(
        ("wrong", "right", "said"),
        [
            (
                "optuna.samplers.RandomSampler()",
                "optuna.samplers.RandomSampler(seed)",
                "config 0 when it is asked again",
            ),
            ("seed", "optuna.samplers.RandomSampler(seed)", "what returns an Optuna sampler; .*:mine returns"),
            ("random.nothing", "optuna.samplers.RandomSampler(seed)", r"mine raised AttributeError.*\.py:2"),
        ],
    )
    def test_what_cannot_be_replayed_is_refused_and_the_remedy_works(self, wrong, right, said, folder, request):
        module = f"brought_{abs(hash(request.node.name))}"
        write(folder / f"{module}.py", f"def mine(seed): return {wrong}")
        with pytest.raises((ConfigFault, SearchFault), match=said):
            searched(search(sampler=f"{module}:mine", total=2), folder / "s")
        write(folder / f"{module}.py", f"def mine(seed): return {right}")
        assert len(searched(search(sampler=f"{module}:mine", total=2), folder / "t").judged) == 2

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("tpee", "did you mean 'tpe'"),
            ("not_there:mine", "no module not_there"),
            ("optuna.samplers:Nothing", "no function or class Nothing"),
        ],
    )
    def test_what_is_none_is_refused_before_anything_starts(self, name, said):
        with pytest.raises(ConfigFault, match=said):
            parse(search_margin_psnr.STUDY, ["--data", "digits", "--search", "4", "--sampler", name])

    def test_every_name_is_one(self):
        assert [check_sampler(name) for name in NAMES] == list(NAMES)
