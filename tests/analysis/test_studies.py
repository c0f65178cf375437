"""Studies beside each other: paired where the networks allow it, and pooled never."""

import pandas as pd
import pytest

from analysis.report import Request, gather, main, write
from analysis.studies import Study, beside_table, difference_table, page_of
from analysis.views import DECLARED, Refused
from tests.analysis_rows import STRESS, chains, filled


def grid(path, study: str, weights, shift: float = 0.0, **changes):
    rows = [
        {**one, "margin": one["margin"] + shift}
        for weight in weights
        for one in chains(study=study, parameters={"objective.lambda_ts": weight}, **changes)
    ]
    return filled(path, rows)


def studied(store, *names: str) -> list[Study]:
    return [Study(name, *gather(Request(store=store, study=name))) for name in names]


def test_every_study_has_its_own_columns_and_lines_meet_by_config(tmp_path):
    grid(tmp_path, "one", (1.0, 2.0))
    studies = studied(grid(tmp_path, "two", (2.0, 4.0), shift=0.5), "one", "two")
    frame = beside_table(studies, DECLARED).frame
    assert len(frame) == 3 * 3
    full = frame[frame["mode"] == "full"].set_index("label")
    assert full.loc["lambda_ts 2", ["left_mean_A", "left_mean_B"]].tolist() == pytest.approx([1.71, 2.21])
    assert full.loc["lambda_ts 1", ["left_mean_A", "left_mean_B"]].isna().tolist() == [False, True]


def test_pairs_share_seed_data_teacher_and_machine(tmp_path):
    grid(tmp_path, "one", (2.0,))
    studies = studied(grid(tmp_path, "two", (4.0,), shift=0.5), "one", "two")
    table = difference_table(studies)
    margins = table.frame[table.frame["of"] == "G_0, nats"]
    assert margins["mean"].tolist() == pytest.approx([0.5] * 3)
    assert margins[["n", "n_unpaired"]].drop_duplicates().to_numpy().tolist() == [[3, 0]]
    assert set(margins["contrast"]) == {"B − A"}


@pytest.mark.parametrize(
    "change",
    [
        *({"data": "mnist", "data_digest": "d" * 64}, {"key_teacher": "t" * 64}, {"environment": "e" * 64}),
        *({"version_torch": "9"}, STRESS),
    ],
    ids=["data", "teacher", "machine", "version", "stress"],
)
def test_what_shares_too_little_is_not_paired(tmp_path, change):
    grid(tmp_path, "one", (2.0,))
    studies = studied(grid(tmp_path, "two", (2.0,), **change), "one", "two")
    assert difference_table(studies).frame["n"].sum() == 0
    assert "nothing is paired" in page_of(studies, DECLARED).sections[0].words[0]


def test_no_number_is_over_two_studies(tmp_path):
    grid(tmp_path, "one", (2.0,))
    studies = studied(grid(tmp_path, "two", (2.0,), shift=0.5), "one", "two")
    for table in (block for section in page_of(studies, DECLARED).sections for block in section.blocks):
        frame = getattr(table, "frame", pd.DataFrame())
        assert not [name for name in frame if name.startswith("n_") and (frame[name] == 6).any()]
    assert [name for name, _ in page_of(studies, DECLARED).opening] == ["A: one", "B: two"]


def test_a_failed_seed_is_counted_beside_every_mean(tmp_path):
    grid(tmp_path, "one", (2.0,))
    rows = chains(study="two", parameters={"objective.lambda_ts": 2.0})
    broken = [one | {"margin": None} if (one["seed"], one["mode"]) == (2, "full") else one for one in rows]
    studies = studied(filled(tmp_path, broken), "one", "two")
    beside, differences = beside_table(studies, DECLARED), difference_table(studies)
    full = beside.frame[beside.frame["mode"] == "full"].iloc[0]
    assert (full["n_A"], full["n_failed_A"], full["n_B"], full["n_failed_B"]) == (3, 0, 3, 1)
    line = differences.frame[(differences.frame["mode"] == "full") & (differences.frame["of"] == "G_0, nats")].iloc[0]
    assert (line["n"], line["n_failed"]) == (3, 1)
    for table in (beside, differences):
        assert "n_failed" in " ".join(column.heading for column in table.columns)
        assert any(note.startswith("B: split certify") for note in table.notes)


def test_one_axis_serves_all_studies(tmp_path):
    grid(tmp_path, "one", (2.0,))
    studies = studied(grid(tmp_path, "two", (2.0,), shift=2.5), "one", "two")
    axes = {found.strips.axis for _, found in page_of(studies, DECLARED).opening}
    assert len(axes) == 1


def test_a_study_beside_itself_and_two_splits_are_refused(tmp_path):
    grid(tmp_path, "one", (2.0,))
    store = grid(tmp_path, "two", (2.0,), split="guard")
    with pytest.raises(Refused, match="found one twice"):
        page_of(studied(store, "one", "one"), DECLARED)
    with pytest.raises(Refused, match="one on certify, two on guard"):
        page_of(studied(store, "one", "two"), DECLARED)


def test_the_command_takes_studies_of_other_stores(tmp_path, capsys):
    first, second = grid(tmp_path / "a", "one", (2.0,)), grid(tmp_path / "b", "one", (4.0,))
    assert main(["one", f"{second}:one", "--store", str(first)]) == 0
    path = first / "views" / "report" / "one beside one" / "report.html"
    assert capsys.readouterr().out.strip() == str(path)
    html = path.read_text()
    assert "A: a:one" in html
    assert "B: b:one" in html
    assert "<script" not in html
    assert (path.parent / "tables" / "beside_studies.csv").exists()


def test_the_only_study_of_a_store_need_not_be_named(tmp_path, capsys):
    store = filled(tmp_path, chains())
    assert main(["--store", str(store)]) == 0
    assert "made_up" in capsys.readouterr().out
    assert write(Request(store=tmp_path, studies=("made_up",))).exists()


def test_which_studies_there_are_is_told_where_none_is_named(tmp_path, capsys):
    for name in ("one", "two"):
        store = grid(tmp_path / "a", name, (2.0,))
    assert main(["--store", str(store)]) == 2
    told = capsys.readouterr().err
    assert "give --study NAME" in told
    assert "one, two" in told
    assert main(["--store", str(store), "--study", "two"]) == 0
