"""Tables of teachers: frozen beside live, raw beside used, and rows that are never averaged together."""

import numpy as np
import pytest

from analysis.load import load
from analysis.tables.teachers import live_table, one_teaching, used_table
from analysis.views import Refused, partition
from tests.analysis_rows import filled, row

FROZEN = {"teacher_features": "frozen", "teacher_seed": None}
LIVE = {"teacher_features": "live", "teacher_seed": None, "teacher_drift": 3.0, "info": 0.6}


def frame(tmp_path, given):
    return load(filled(tmp_path / "store", given), split="certify")


class TestOneTeaching:
    def test_rows_that_were_taught_alike_pass(self, tmp_path):
        assert len(one_teaching(frame(tmp_path, [row(seed, **FROZEN) for seed in range(3)]))) == 3

    @pytest.mark.parametrize("other", [LIVE, {**FROZEN, "teacher_seed": 0}])
    def test_others_do_not(self, tmp_path, other):
        with pytest.raises(Refused, match="one kind of teacher"):
            one_teaching(frame(tmp_path, [row(0, **FROZEN), row(1, **other)]))

    def test_rows_that_do_not_say_are_of_one_kind(self, tmp_path):
        assert len(one_teaching(frame(tmp_path, [row(seed) for seed in range(2)]))) == 2


class TestLiveTable:
    def test_sets_both_teachers_of_a_mode_side_by_side(self, tmp_path):
        given = [row(0, "full", **FROZEN), row(0, "live_full", **LIVE), row(0, "rescue", **FROZEN)]
        shown = live_table(partition(frame(tmp_path, given))).frame
        assert list(shown["mode"]) == ["full", "live_full"]
        assert shown["clusters"].tolist() == pytest.approx([np.exp(2.0), np.exp(0.6)])
        assert shown["teacher_drift"].isna().tolist() == [True, False]

    def test_is_empty_without_a_live_teacher(self, tmp_path):
        assert len(live_table(partition(frame(tmp_path, [row(0, **FROZEN)]))).frame) == 0


class TestUsedTable:
    def test_shows_the_rows_that_have_a_used_head(self, tmp_path):
        given = [row(0, "rescue"), row(0, "protected_rescue", used_loss=0.1, used_margin=1.9)]
        shown = used_table(partition(frame(tmp_path, given))).frame
        assert list(shown["mode"]) == ["protected_rescue"]
        assert shown["used_margin"].tolist() == [1.9]

    def test_is_empty_without_one(self, tmp_path):
        assert len(used_table(partition(frame(tmp_path, [row(0, "rescue")]))).frame) == 0
