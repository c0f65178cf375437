"""The first screen: which verdict, which winner, and a command that shows it again."""

import json
from pathlib import Path

import pytest

from analysis import search
from analysis.load import load
from analysis.opening import command, opening
from analysis.report import Request, gather
from analysis.views import DECLARED, partition
from certvae.spec.goal import RULE, Goal
from certvae.store.log import note
from certvae.store.store import Store
from tests.analysis_rows import STRESS, STUDY, chains, filled, lost, row, searched


def opened(path, rows):
    return opening(partition(load(filled(path, rows))), DECLARED)


@pytest.mark.parametrize(
    ("rows", "verdict", "words"),
    [
        (chains(), "Yes.", "3 of 3 for full and 3 of 3 for rescue; smallest margin left +1.6000 nats, smallest popul"),
        (chains(margin=-0.1), "Not shown.", "0 of 3 for full"),
        ([*chains(), lost(3)], "In part.", "3 of 4 for full"),
        (chains(**STRESS), "Not asked.", "No seed has a strict-feasible teacher"),
        ([*chains([0]), *chains([1], margin=-1.0, **STRESS)], "Yes.", "1 of 1 for full"),
        (chains(split="guard"), "Yes.", "smallest margin left +1.6000 nats."),
        (chains(modes=["vanilla", "gmvae"], margin=-0.05), "Not shown.", "0 of 3 for vanilla and 0 of 3 for gmvae"),
    ],
    ids=["all", "none", "some", "stress alone", "stress apart", "guard has no population", "nobody asked"],
)
def test_the_verdict_is_about_strict_feasible_seeds_that_were_asked(tmp_path, rows, verdict, words):
    found = opened(tmp_path, rows)
    assert found.verdict == verdict
    assert words in found.sentence


def test_a_certified_head_over_an_open_channel_is_no_yes(tmp_path):
    """Its means vary, and a head of enough gain reads them, whatever noise they lie in."""
    found = opened(tmp_path, chains([0, 1], modes=("full",), kl_rate=0.2, sampled_population_bound=-0.1))
    assert found.verdict == "In part."
    assert found.sentence.endswith("; 2 of 2 channels are open: their draws are not shown to carry information.")


def test_no_bound_is_the_smallest_while_a_network_has_none(tmp_path):
    """Its scores are gone, say: those of the others were called the smallest."""
    rows = [one | ({"population_bound": None} if one["seed"] == 1 else {}) for one in chains([0, 1])]
    assert "smallest population bound" not in opened(tmp_path / "one", rows).sentence
    full = [
        one | ({"population_bound": None} if (one["seed"], one["mode"]) == (1, "full") else {})
        for one in chains([0, 1])
    ]
    assert "smallest population bound" not in opened(tmp_path / "full", full).sentence
    assert "smallest population bound" in opened(tmp_path / "all", chains([0, 1])).sentence


def test_only_a_dead_channel_is_called_collapsed(tmp_path):
    dead = chains([0], kl_rate=0.01, sampled_population_bound=-1.0)
    alive = chains([1], sampled_population_bound=0.5)
    lines = {line.name: line.channel for line in opened(tmp_path, [*dead, *alive]).strips.lines}
    assert lines["no_align"] == "alive 1, dead (collapsed) 1"


@pytest.mark.parametrize(
    ("seeds", "verdict", "words"),
    [([0, 1], "Collapsed.", "2 of 2 for full"), ([0], "In part.", "; 2 of 4 channels are dead (collapsed).")],
    ids=["all", "one seed"],
)
def test_a_head_that_is_certified_over_a_dead_channel_is_no_yes(tmp_path, seeds, verdict, words):
    dead = {"kl_rate": 0.01, "sampled_population_bound": -1.0}
    rows = [one for seed in (0, 1) for one in chains([seed], **(dead if seed in seeds else {}))]
    found = opened(tmp_path, rows)
    assert found.verdict == verdict
    assert words in found.sentence


def test_controls_come_last_and_say_what_they_are(tmp_path):
    lines = opened(tmp_path, chains(modes=["full", "no_align", "rescue", "untrained"])).strips.lines
    assert [(line.name, line.control) for line in lines] == [
        *(("full", False), ("rescue", False)),
        *(("no_align", True), ("untrained", True)),
    ]
    assert all(line.remark for line in lines if line.control)


def test_marks_lie_where_margins_are(tmp_path):
    strips = opened(tmp_path, [row(0, margin=1.0, population_bound=0.5), row(0, "no_align", margin=0.0)]).strips
    full, plain = (line.marks[0] for line in strips.lines)
    low, high = strips.axis
    assert plain.x == strips.zero
    assert low + full.x / 100 * (high - low) == pytest.approx(1.0, abs=1e-3)
    assert full.bound == pytest.approx((full.x + plain.x) / 2, abs=0.01)
    assert (full.sure, plain.sure) == (True, False)


def test_the_command_of_a_winner_goes_on_with_its_search_until_that_is_confirmed():
    last = {"study": "/somewhere/sweeps/mine.py", "arguments": ["--search", "8", "--store", "x", "--looks", "1"]}
    assert command(last, Path("/elsewhere/a b"), "mine", [7, 8]) == (
        "certvae run PATH/mine.py --study mine --config 'PATH/a b/views/mine/best.json' --seeds 7 8 --store 'PATH/a b'"
    )
    beside = command(last, Path("/somewhere/sweeps/s"), "mine", [7])
    assert beside == "certvae run mine.py --study mine --config s/views/mine/best.json --seeds 7 --store s"
    module = {"study": "mine.sweeps:STUDY", "arguments": []}
    again = "--config PATH/s/views/mine/best.json --seeds 7 --store PATH/s"
    assert command(module, Path("/somewhere/s"), "mine", [7]) == f"certvae run mine.sweeps:STUDY --study mine {again}"
    assert command(last, Path("/somewhere/a b"), "mine", []) == "certvae run 'a b' --study mine"
    assert command(None, Path("/somewhere/a b"), "mine", [7, 8]) == ""
    below = {"study": str(Path.cwd() / "sweeps" / "mine.py"), "arguments": []}
    assert command(below, Path("stores", "s"), "mine", [7]).endswith("--seeds 7 --store stores/s")
    assert command(below, Path("stores", "s"), "mine", [7]).startswith("certvae run sweeps/mine.py --study mine")


class TestWinner:
    """A search of two weights on seeds 0 to 2, and fresh seeds of the better one."""

    @pytest.fixture
    def store(self, tmp_path):
        better, worse = ({"objective.lambda_ts": weight} for weight in (5.0, 1.0))
        rows = chains(range(3), split="guard", parameters=dict(better))
        rows += chains(range(3), ["full", "no_align"], split="guard", parameters=dict(worse), margin=0.5)
        rows += [one for split in ("guard", "certify") for one in chains([7, 8], split=split, parameters=dict(better))]
        path = searched(tmp_path / "store", rows, Goal())
        note(Store(path).disk, "commands", {"of": STUDY, "study": "/x/sweeps/mine.py", "arguments": ["--search", "2"]})
        return path

    def test_it_has_command_confirmation_and_optimism(self, store):
        material, _ = gather(Request(store=store, study=STUDY))
        found = material.winner
        assert found is not None
        assert found.name == "lambda_ts 5"
        assert found.sentence.startswith("mean margin +1.8100 nats over n = 3 strict-feasible search seeds")
        assert "; runner-up lambda_ts 1 +0.500" in found.sentence
        assert "its constraints held" in found.confirmation
        assert found.confirmation.endswith("; optimism of the search −0.0650 nats")
        assert found.command == f"certvae run {store.name} --study {STUDY}"

    @pytest.mark.parametrize(("left", "shown"), [(0, True), (-1, False)], ids=["the same", "another"])
    def test_what_the_search_has_left_is_shown_again_where_it_is_the_winner(self, store, left, shown):
        guard = search.configs(partition(load(store, mix=("splits",))), Goal(), range(3))
        folder = store / "views" / STUDY
        folder.mkdir(parents=True)
        (folder / "best.json").write_text(json.dumps({"config": guard["config"].iloc[left]}))
        material, _ = gather(Request(store=store, study=STUDY))
        assert material.winner is not None
        assert (
            f"--config PATH/{store.name}/views/{STUDY}/best.json --seeds 7 8 --store PATH/{store.name}"
            in material.winner.command
        ) is shown

    def test_without_fresh_seeds_it_says_so(self, tmp_path):
        rows = [
            one for weight in (1.0, 5.0) for one in chains(split="guard", parameters={"objective.lambda_ts": weight})
        ]
        material, _ = gather(Request(store=searched(tmp_path, rows, Goal()), study=STUDY))
        assert material.winner is not None
        assert "not confirmed yet" in material.winner.confirmation

    def test_where_nothing_is_feasible_nothing_wins(self, store):
        material, _ = gather(Request(store=store, study=STUDY, psnr_floor=99.0))
        assert material.winner is None

    def test_a_comparison_of_configs_has_no_winner(self, tmp_path):
        rows = [
            one for weight in (1.0, 5.0) for one in chains(split="guard", parameters={"objective.lambda_ts": weight})
        ]
        store = filled(tmp_path, rows)
        assert Store(store).get_document(RULE, STUDY) is None
        material, _ = gather(Request(store=store, study=STUDY))
        assert material.winner is None
