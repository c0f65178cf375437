"""Records: sealed, whole or absent, published once, and readable by four lines of pandas."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certvae.canonical import canonical_json, digest
from certvae.errors import ConfigFault, DiskFault, StoreFault
from certvae.store.disk import Disk
from certvae.store.failpoints import Failpoints
from certvae.store.folders import Corrupt
from certvae.store.records import (
    checked_name,
    documents,
    get_document,
    publish_file,
    put_document,
    put_row,
    read_record,
    record_paths,
    rows,
)
from certvae.store.sealed import seal, unseal
from certvae.store.selftest import ended, forked

VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.just("digest"), inner, max_size=3)
    ),
    max_leaves=10,
)
RECORD = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "digest"), VALUE, max_size=5)
ROW = {"study": "s", "seed": 3, "margin": 0.25, "name": "é", "none": None}


def quarantined(disk: Disk) -> int:
    return len(list((disk.root / "quarantine").iterdir()))


class TestSeal:
    @given(RECORD)
    def test_comes_back(self, record: dict[str, Any]) -> None:
        found, sha = unseal(seal(record))
        assert canonical_json(found) == canonical_json(record)
        assert sha == digest(record)
        assert json.loads(seal(record))["digest"] == sha

    @given(RECORD, st.data())
    def test_every_single_bit_is_noticed(self, record: dict[str, Any], data: st.DataObject) -> None:
        text = bytearray(seal(record))
        bit = data.draw(st.integers(0, len(text) * 8 - 1))
        text[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError):
            unseal(bytes(text))

    @pytest.mark.parametrize("text", [b"", b"[]", b"3", b"{}", b'{"digest":3}', b'{"digest":"x"}', b"\xff", b"null"])
    def test_refuses_what_was_never_sealed(self, text: bytes) -> None:
        with pytest.raises(ValueError):
            unseal(text)

    def test_refuses_the_same_meaning_in_another_text(self) -> None:
        with pytest.raises(ValueError, match="SHA-256"):
            unseal(seal(ROW).replace(b":", b": "))

    def test_the_name_digest_is_taken(self) -> None:
        with pytest.raises(StoreFault, match="no field 'digest'"):
            seal({"digest": "mine"})


class TestRows:
    def test_comes_back_in_a_fixed_order(self, disk: Disk) -> None:
        wanted = [{**ROW, "study": study, "seed": seed} for study in ("b", "a") for seed in range(5)]
        names = [put_row(disk, row) for row in wanted]
        order = sorted(range(10), key=lambda index: (wanted[index]["study"], names[index]))
        assert rows(disk) == [wanted[index] for index in order]
        assert rows(disk, "a") == [row for row in rows(disk) if row["study"] == "a"]
        assert rows(disk, "c") == []

    def test_to_publish_again_is_a_no_op(self, disk: Disk) -> None:
        assert put_row(disk, ROW) == put_row(disk, dict(reversed(ROW.items()))) == digest(ROW)
        (path,) = record_paths(disk.root / "rows")
        inode = path.stat().st_ino
        put_row(disk, rows(disk)[0])
        assert path.stat().st_ino == inode
        assert path.stat().st_mode & 0o777 == 0o600

    def test_four_lines_of_pandas_read_a_study(self, disk: Disk) -> None:
        for seed in range(3):
            put_row(disk, {**ROW, "seed": seed})
        frame = pd.DataFrame([json.loads(path.read_text()) for path in (disk.root / "rows" / "s").glob("*.json")])
        assert sorted(frame["seed"]) == [0, 1, 2]
        assert set(frame["margin"]) == {0.25}

    @pytest.mark.parametrize("study", [None, "", "A", "a/b", "..", ".hidden", "a b", "x" * 129, 3])
    def test_f56_a_study_is_a_harmless_file_name(self, disk: Disk, study: Any) -> None:
        with pytest.raises(StoreFault, match="a name must be"):
            put_row(disk, {"study": study})
        with pytest.raises(StoreFault, match="a name must be"):
            checked_name(study)

    def test_refuses_what_is_not_finite(self, disk: Disk) -> None:
        with pytest.raises(ConfigFault):
            put_row(disk, {**ROW, "margin": float("nan")})

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(seal({"study": "s", "seed": 4})),
            lambda path: path.rename(path.with_name("other.json")),
            lambda path: path.rename(path.with_suffix("")),
            lambda path: [path.unlink(), path.mkdir()],
            lambda path: [path.unlink(), path.symlink_to("elsewhere")],
            lambda path: [path.parent.with_name("t").mkdir(), path.rename(path.parent.with_name("t") / path.name)],
            lambda path: [path.rename(path.parent.with_name("stray")), path.parent.rmdir()],
        ],
    )
    def test_f23_a_corrupt_row_is_left_out_and_can_be_built_again(
        self, disk: Disk, spoil: Callable[[Path], object]
    ) -> None:
        put_row(disk, {**ROW, "seed": 1})
        put_row(disk, {**ROW, "study": "other"})
        spoil(disk.root / "rows" / "s" / f"{digest({**ROW, 'seed': 1})}.json")
        assert rows(disk) == [{**ROW, "study": "other"}]
        assert quarantined(disk) == 1
        put_row(disk, {**ROW, "seed": 1})
        assert len(rows(disk)) == 2

    def test_f23_a_corrupt_row_is_replaced_when_published_again(self, disk: Disk) -> None:
        put_row(disk, ROW)
        (path,) = record_paths(disk.root / "rows")
        path.write_bytes(b"{}")
        put_row(disk, ROW)
        assert rows(disk) == [ROW]
        assert quarantined(disk) == 1

    def test_gives_up_when_something_keeps_removing_it(self, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
        def vanish(disk: Disk, source: Path, target: Path) -> None:
            """Somebody takes the record away as soon as it is there."""

        monkeypatch.setattr(Disk, "link", vanish)
        with pytest.raises(StoreFault, match="could not publish in 3 attempts"):
            put_row(disk, ROW)

    @pytest.mark.parametrize("name", ["ENOSPC", "EIO", "EROFS", "EDQUOT"])
    def test_f19_f21_refused_at_every_step(self, disk: Disk, name: str) -> None:
        put_row(disk, {**ROW, "study": "kept"})
        counting = Disk(disk.root)
        put_row(counting, {**ROW, "study": "counted"})
        refused = 0
        for step in range(1, counting.failpoints.steps + 1):
            row = {**ROW, "study": f"step{step}"}
            failing = Disk(disk.root, Failpoints(fail_at=f"{step}:{name}"))
            refused += "clear" not in self.told(failing, row, name)
            put_row(disk, row)
            assert len(rows(disk)) == 2 + step
        assert refused == counting.failpoints.steps - 1

    def told(self, failing: Disk, row: dict[str, Any], name: str) -> str:
        """What a refused call says; what cannot be cleared away is no fault, the next start sweeps it."""
        try:
            put_row(failing, row)
        except DiskFault as fault:
            return str(fault) if name in str(fault) else "clear: the errno is missing"
        return "clear"

    def test_f21_a_read_error_is_no_corruption(self, disk: Disk) -> None:
        name = put_row(disk, ROW)
        failing = Disk(disk.root, Failpoints(fail_at=f"read:{name}.json:EIO"))
        with pytest.raises(DiskFault, match="EIO"):
            rows(failing)
        assert rows(disk) == [ROW]


class TestDocuments:
    def test_comes_back(self, disk: Disk) -> None:
        assert put_document(disk, "proposals", "0001", {"x": (1, 2)}) == {"x": [1, 2]}
        assert get_document(disk, "proposals", "0001") == {"x": [1, 2]}
        assert get_document(disk, "proposals", "0002") is None
        assert get_document(disk, "gate", "0001") is None

    def test_is_listed_by_name_in_order(self, disk: Disk) -> None:
        for name in ("10", "2", "1"):
            put_document(disk, "proposals", name, {"name": name})
        assert list(documents(disk, "proposals").items()) == [(name, {"name": name}) for name in ("1", "10", "2")]
        assert documents(disk, "gate") == {}

    def test_the_first_decision_stands(self, disk: Disk) -> None:
        put_document(disk, "gate", "study", {"config": "a"})
        put_document(disk, "gate", "study", {"config": "a"})
        with pytest.raises(StoreFault) as caught:
            put_document(disk, "gate", "study", {"config": "b"})
        assert digest({"config": "a"}) in str(caught.value)
        assert digest({"config": "b"}) in str(caught.value)
        assert get_document(disk, "gate", "study") == {"config": "a"}

    def test_of_eight_processes_at_once_one_decides(self, disk: Disk) -> None:
        def decide(config: int) -> None:
            put_document(disk, "gate", "study", {"config": config})

        children = [forked(lambda config=config: decide(config)) for config in range(8)]
        codes = [ended(pid) for pid in children]
        found = get_document(disk, "gate", "study")
        assert found is not None
        assert codes == [0 if config == found["config"] else StoreFault.exit_code for config in range(8)]

    @pytest.mark.parametrize(("kind", "name"), [("A", "a"), ("a", "../b"), ("", "a"), ("a", ""), ("a", "b/c")])
    def test_f56_names_are_harmless_file_names(self, disk: Disk, kind: str, name: str) -> None:
        with pytest.raises(StoreFault, match="a name must be"):
            put_document(disk, kind, name, {})
        with pytest.raises(StoreFault, match="a name must be"):
            get_document(disk, kind, name)

    def test_f23_a_corrupt_or_moved_one_is_absent_and_kept_aside(self, disk: Disk) -> None:
        for name in ("one", "two", "three"):
            put_document(disk, "plan", name, {"name": name})
        folder = disk.root / "plan" / "plan"
        shutil.copy(folder / "one.json", folder / "two.json")
        (folder / "three.json").write_bytes(b"{")
        assert get_document(disk, "plan", "two") is None
        assert documents(disk, "plan") == {"one": {"name": "one"}}
        assert quarantined(disk) == 2
        folder.rename(disk.root / "plan" / "other")
        assert documents(disk, "other") == {}


def test_a_lost_race_leaves_the_first_file(disk: Disk) -> None:
    path = disk.root / "rows" / "s" / "x.json"
    for data in (b"first", b"second"):
        publish_file(disk, path, data)
    assert path.read_bytes() == b"first"
    assert list((disk.root / "tmp").iterdir()) == []


def test_a_thousand_random_changes_give_no_other_error(disk: Disk) -> None:
    chance = random.Random(7)
    put_row(disk, ROW)
    (path,) = record_paths(disk.root / "rows")
    text = path.read_bytes()
    for _ in range(1000):
        data = bytearray(text)
        start = chance.randrange(len(data) + 1)
        data[start : start + chance.randrange(40)] = chance.randbytes(chance.randrange(40))
        if data != text:
            path.write_bytes(data)
            with pytest.raises(Corrupt):
                read_record(disk, path)
