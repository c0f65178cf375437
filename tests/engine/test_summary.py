"""The final table: bytes that depend on results alone, and text that fits a terminal."""

import csv
import io

import pytest
from rich.console import Console

from certvae.engine.summary import COLUMNS, SHORT, differences, show, table_shown, table_text, winner_text, with_taus
from certvae.evaluation.diagnostics import ACTIVE_VARIANCE
from certvae.quality import PAPER_TAUS
from certvae.spec.goal import Goal
from certvae.spec.judged import Judged


def row(seed, mode, margin=1.25, **more):
    facts = {
        "study": "s",
        "data": "digits",
        "substitute": None,
        "config": "c",
        "spec": {"seed": seed, "protocol": {"alpha_kl": 1.0}},
        "seed": seed,
        "mode": mode,
        "split": "certify",
        "outcome": "ok",
        "teacher_status": "strict-feasible",
        "info": 2.0,
        "loss": 0.75,
        "margin": margin,
        "population_bound": 0.5,
        "student_info": 1.5,
        "psnr_01": 19.125,
        "active_units": 16,
        "n": 360,
    }
    return {**facts, **more}


ROWS = [row(seed, mode) for seed in (0, 1) for mode in ("full", "no_align", "rescue")]


def test_tau_is_a_view():
    shifted = with_taus(row(0, "full"))
    assert [shifted[f"margin_tau_{tau:.2f}"] for tau in PAPER_TAUS] == pytest.approx([1.2, 1.15, 1.05])


def test_the_text_holds_every_number_exactly():
    read = list(csv.DictReader(io.StringIO(table_text([row(0, "full", margin=0.1 + 0.2)]))))
    assert tuple(read[0]) == COLUMNS
    assert float(read[0]["margin"]) == 0.1 + 0.2


def test_what_is_not_a_result_is_not_in_the_text():
    assert table_text(ROWS) == table_text([{**one, "hostname": "elsewhere", "seconds": 3.5} for one in ROWS])


def test_a_missing_number_stays_missing():
    shown = table_text([row(0, "full", margin=None)])
    assert ",," in shown
    assert "nan" not in shown


@pytest.mark.parametrize("mode", ["guarded_rescue", "rst_alpha_prefit", "aligned_beta_vae_high"])
@pytest.mark.parametrize("statuses", [("strict-feasible",) * 2, ("strict-feasible", "stress-case")])
def test_no_number_is_cut_for_a_long_name(mode, statuses):
    console = Console(width=100, record=True, file=io.StringIO())
    rows = [row(seed, mode, teacher_status=status) for seed, status in enumerate(statuses)]
    console.print(table_shown(rows))
    text = console.export_text()
    assert "\u2026" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert all(SHORT[status] in text for status in statuses)


def test_rows_that_choices_have_seen_carry_no_claim():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table_shown([{**one, "split": "guard"} for one in ROWS]), table_shown(ROWS))
    guard, certify = " ".join(console.export_text().split()).split("What is not positive proves nothing.")[:2]
    assert "Choices have seen guard rows, so their bounds and words are descriptive and no claim." in guard
    assert "Choices have seen" not in certify


def test_it_fits_100_columns_and_shows_a_failed_mode():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table_shown([*ROWS, row(2, "full", outcome="diverged")]))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100
    assert "diverged" in text
    assert "…" not in text


def test_the_caption_says_what_the_columns_are():
    caption = str(table_shown(ROWS).caption)
    assert f"a variance above {ACTIVE_VARIANCE:g}." in caption
    assert "I_S: information of the head's own rows in nats, a diagnostic, not I(x; z)." in caption


def test_the_caption_holds_the_preconditions_of_every_row_once():
    told = [None, "3 rows are leaked", "2 rows are copies", "3 rows are leaked"]
    rows = [row(seed, "full", preconditions=one) for seed, one in enumerate(told)]
    assert "collapse. 2 rows are copies. 3 rows are leaked. " in str(table_shown(rows).caption)


def test_what_was_drawn_may_be_none_and_a_dash_is_for_numbers():
    winner = Judged("c", "complete", "", 3, 0, 0, score=1.0, psnr=18.0)
    drawn = {"lambda_active": None, "lambda_ts": 1 / 3}
    assert "lambda_active None  lambda_ts 0.3333: " in winner_text(winner, [winner], Goal(), drawn)


def test_stale_rows_bear_a_star_and_the_caption_says_why():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table_shown([row(100, "no_align"), row(101, "no_align")], stale=lambda one: one["seed"] == 101))
    text = console.export_text()
    assert [line[:5].split()[0] for line in text.splitlines() if "no_align" in line] == ["100", "101*"]
    assert "* 1 of 2 rows are stale" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text


def test_a_number_that_no_network_has_is_no_number_in_the_table():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table_shown([row(0, "full", margin=None, loss=None, psnr_01=None)]))
    shown = next(line for line in console.export_text().splitlines() if line.startswith("0 "))
    assert shown.split() == ["0", "full", "strict", "2.000", *"-----", "+0.500", "1.500", "-", "16", "-", "-"]


def test_the_rows_are_counted_although_the_first_network_failed():
    failed = {name: value for name, value in row(0, "full", outcome="diverged").items() if name != "n"}
    assert "360 certify rows" in str(table_shown([failed, row(0, "no_align")]).title)


def test_configs_are_shown_apart_each_with_what_it_says_otherwise(tmp_path):
    console = Console(width=100, record=True, file=io.StringIO())
    other = [{**one, "config": "d", "spec": {"seed": 0, "protocol": {"alpha_kl": 8.0}}} for one in ROWS]
    show([*ROWS, *other], tmp_path, console)
    titles = [line for line in console.export_text().splitlines() if "360 certify rows" in line]
    assert [title.rpartition("; ")[2].strip() for title in titles] == ["alpha_kl 1.0", "alpha_kl 8.0"]


def test_one_config_needs_no_name():
    assert differences(ROWS) == {"c": ""}


def test_show_says_where_the_table_is(tmp_path):
    console = Console(width=200, record=True, file=io.StringIO())
    show(ROWS, tmp_path, console)
    assert str(tmp_path / "views" / "s" / "table.csv") in console.export_text()
    assert (tmp_path / "views" / "s" / "table.csv").read_text() == table_text(ROWS)


def test_show_says_why_networks_have_no_numbers(tmp_path):
    why = "E-TEACH: the teacher carries no information [all rows are equal]"
    lost = [row(1, mode, outcome="infeasible_teacher", reason=why) for mode in ("full", "rescue")]
    text = io.StringIO()
    show([*ROWS[:3], *lost, row(2, "full", outcome="diverged", reason="loss")], tmp_path, Console(width=100, file=text))
    lines = text.getvalue().splitlines()
    assert f"2 without numbers, seed 1 full the first: {why}" in lines
    assert "1 without numbers, seed 2 full the first: loss" in lines


@pytest.mark.parametrize("units", [16, 128, 1024])
def test_many_active_units_break_no_name(units):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table_shown([row(0, "untrained", active_units=units), row(0, "full", active_units=2)]))
    assert "untrained" in console.export_text()
