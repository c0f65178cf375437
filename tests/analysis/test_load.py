import json
import random

import pandas as pd
import pytest

from analysis import load
from analysis.captions import versions
from analysis.views import Refused
from certvae.errors import StoreFault
from certvae.store.audit import repair
from certvae.store.folders import Corrupt
from tests.analysis_rows import MARGIN, chains, filled, lost, row, whole_study


def test_one_line_per_row_in_the_order_of_configs_seeds_and_modes(tmp_path):
    rows = [
        row(seed, mode, parameters={"objective.alpha_kl": weight})
        for weight in (8.0, 1.0, 2.0)
        for seed in (1, 0)
        for mode in ("rescue", "full", "mine", "no_align")
    ]
    random.Random(0).shuffle(rows)
    frame = load.load(filled(tmp_path, rows))
    weights = [spec["objective"]["alpha_kl"] for spec in frame["spec"]]
    assert weights == [1.0] * 8 + [2.0] * 8 + [8.0] * 8
    assert frame["seed"].tolist()[:8] == [0] * 4 + [1] * 4
    assert frame["mode"].tolist()[:4] == ["full", "no_align", "rescue", "mine"]


def test_a_frame_does_not_depend_on_the_order_in_which_rows_were_written(tmp_path):
    rows = chains()
    first = load.load(filled(tmp_path / "a", rows))
    assert first.equals(load.load(filled(tmp_path / "b", rows[::-1])))


def test_what_is_not_finite_or_not_there_is_nan(tmp_path):
    frame = load.load(filled(tmp_path, [row(0, margin=None), lost(1)]))
    assert frame["margin"].isna().tolist() == [True, True]
    assert frame["info"].isna().tolist() == [False, True]
    assert set(load.NUMBERS) <= set(frame.columns)


def test_a_folder_that_is_no_store_is_refused_and_not_made(tmp_path):
    with pytest.raises(StoreFault, match="wanted a store, found no STORE"):
        load.load(tmp_path / "misspelt")
    assert not (tmp_path / "misspelt").exists()


def test_a_store_is_read_and_never_written(tmp_path):
    filled(tmp_path, chains())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    load.load(tmp_path, "made_up", split="certify")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_unknown_study_or_split_is_answered_with_those_that_are_there(tmp_path):
    filled(tmp_path, chains())
    with pytest.raises(Refused, match=r"wanted rows of study 'other', found none.*studies with rows: made_up"):
        load.load(tmp_path, "other")
    with pytest.raises(Refused, match="splits of this study: certify"):
        load.load(tmp_path, "made_up", split="guard")
    with pytest.raises(Refused, match="rows have no column 'versoin_torch'"):
        load.load(tmp_path, only={"versoin_torch": "2.10.0"})


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("versions", {"version_torch": "2.15.0"}, r"version_torch: 2\.10\.0 \(3 rows\), 2\.15\.0 \(1 rows\)"),
        ("versions", {"stage_version_judge": 2}, r"stage_version_judge: 1 \(3 rows\), 2 \(1 rows\)"),
        ("environments", {"environment": "other"}, "wanted rows of one set of environments"),
        ("splits", {"split": "guard"}, r"split: certify \(3 rows\), guard \(1 rows\)"),
    ],
)
def test_rows_that_are_no_replications_are_not_mixed_unless_asked(tmp_path, kind, changes, said):
    filled(tmp_path, [*chains([0]), row(1, **changes)])
    with pytest.raises(Refused, match=said):
        load.load(tmp_path)
    assert len(load.load(tmp_path, mix=[kind])) == 4
    name, value = next(iter(changes.items()))
    assert len(load.load(tmp_path, only={name: str(value)})) == 1


def test_rows_that_name_their_own_stages_alone_are_chosen_and_captioned(tmp_path):
    """full was trained by two versions of a stage that no_align knows nothing of."""
    made = [row(0, stage_version_aligned=version, margin=0.1 * version) for version in (9, 10)]
    filled(tmp_path, [*made, row(0, "no_align", stage_version_unaligned=1)])
    with pytest.raises(Refused, match=r"_aligned: 9 \(1 rows\), 10 \(1 rows\).*--only stage_version_aligned=10,"):
        load.load(tmp_path)
    chosen = load.load(tmp_path, only={"stage_version_aligned": "10"})
    assert chosen[["mode", "margin"]].to_numpy().tolist() == [["full", 1.0], ["no_align", -0.05]]
    assert versions(chosen, load.STAGE_VERSION) == "aligned 10, judge 1, unaligned 1"
    assert versions(chosen[chosen["mode"] == "no_align"], load.STAGE_VERSION) == "judge 1, unaligned 1"
    assert "stage_version_unaligned" in load.curves(tmp_path, chosen)


def test_a_stage_that_older_rows_do_not_know_is_no_other_version(tmp_path):
    filled(tmp_path, [row(0), row(1, stage_version_prefit=1)])
    assert len(load.load(tmp_path)) == 2


def test_curves_come_from_the_networks_that_rows_point_at(tmp_path):
    whole_study(tmp_path, range(2), epochs=5)
    curves = load.curves(tmp_path, load.load(tmp_path))
    assert len(curves) == 2 * len(MARGIN) * 5
    assert set(curves["split"]) == {"guard"}
    ends = curves[curves["epoch"] == 5].set_index(["seed", "mode"])["guard_margin"]
    assert ends[1, "full"] - ends[0, "full"] == pytest.approx(0.01)
    assert "version_torch" in curves


def test_a_network_whose_object_is_gone_has_no_curve(tmp_path):
    filled(tmp_path, chains(key_trained="0" * 64))
    assert load.curves(tmp_path, load.load(tmp_path)).empty


def test_a_key_that_is_no_digest_is_never_looked_up(tmp_path):
    filled(tmp_path, [row(0, key_trained="../../../etc", key_judged="..", key_teacher="x/y")])
    frame = load.load(tmp_path)
    assert load.curves(tmp_path, frame).empty
    assert load.candidates(tmp_path, frame).empty
    assert load.pictures(tmp_path, frame) == []


def test_a_corrupt_object_is_told_and_left_to_repair(tmp_path):
    whole_study(tmp_path, [0])
    frame = load.load(tmp_path)
    manifest = tmp_path / "obj" / frame["key_trained"][0] / "MANIFEST"
    manifest.write_text("nothing")
    with pytest.raises(Corrupt, match=r"run `.*store repair --store .*` where the store can be written"):
        load.curves(tmp_path, frame)
    assert manifest.exists()
    repair(tmp_path)
    assert set(load.curves(tmp_path, frame)["mode"]) == {"no_align", "rescue"}


def test_arrays_that_are_damaged_are_told_and_left_to_repair(tmp_path):
    whole_study(tmp_path, [0])
    frame = load.load(tmp_path)
    arrays = next((tmp_path / "obj" / frame["key_judged"][0]).glob("*.safetensors"))
    arrays.write_bytes(bytes(arrays.stat().st_size))
    with pytest.raises(Corrupt, match="store repair"):
        load.pictures(tmp_path, frame)
    assert arrays.exists()


def test_candidates_know_which_of_them_was_chosen(tmp_path):
    whole_study(tmp_path, range(2))
    found = load.candidates(tmp_path, load.load(tmp_path))
    assert found.groupby("seed").size().tolist() == [4, 4]
    assert found.loc[found["chosen"], "temperature"].tolist() == [1.0, 1.0]
    assert found["info"].isna().sum() == 2


def test_a_teacher_that_all_seeds_share_has_one_search(tmp_path):
    whole_study(tmp_path, [0])
    key = load.load(tmp_path)["key_teacher"][0]
    filled(tmp_path, [row(seed, mode, key_teacher=key) for seed in (1, 2) for mode in MARGIN])
    assert len(load.candidates(tmp_path, load.load(tmp_path))) == 4


def test_pictures_stand_in_the_order_of_rows(tmp_path):
    whole_study(tmp_path, [0], channels=3)
    found = load.pictures(tmp_path, load.load(tmp_path))
    assert [one.mode for one in found] == list(MARGIN)
    assert found[0].originals.shape == (8, 3, 8, 8)


def test_four_lines_of_pandas_read_the_same_rows(tmp_path):
    filled(tmp_path, chains())
    plain = pd.DataFrame([json.loads(path.read_text()) for path in (tmp_path / "rows" / "made_up").iterdir()])
    ours = load.load(tmp_path)
    assert sorted(plain["margin"]) == sorted(ours["margin"])


def test_a_corrupt_row_is_left_out_and_left_where_it_is(tmp_path):
    filled(tmp_path, chains())
    path = next((tmp_path / "rows" / "made_up").iterdir())
    path.write_text(path.read_text().replace("certify", "guard"))
    assert len(load.load(tmp_path)) == 8
    assert path.exists()
    assert repair(tmp_path).exit_code == 0
    assert not path.exists()
