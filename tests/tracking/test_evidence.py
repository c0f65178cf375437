"""What is read of a store is what was published, or nothing."""

import io
import json

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from certvae.store.log import note
from certvae.store.store import Store
from certvae.tracking import evidence
from certvae.tracking.evidence import CURVES, Evidence
from tests.small_rows import aligned, cell, row, teacher


def test_curve_and_duration_of_an_object(store: Store) -> None:
    made = store.call(aligned, "full", 0, 0.5, 5)
    evidence = Evidence(store)
    assert evidence.facts(made.key) == made.facts
    assert evidence.seconds(made.key) == store.seconds("aligned")[0]


def test_weights_are_named_and_not_copied(store: Store) -> None:
    made = store.call(aligned, "full", 0, 0.5, 5)
    told = json.loads(Evidence(store).checkpoint(made.key)["checkpoint.json"])
    assert (store.path / told["file"]).stat().st_size == told["bytes"]


def test_a_teacher_report_holds_the_best_candidates(store: Store) -> None:
    made = store.call(teacher, 0)
    told = json.loads(Evidence(store).teacher_report(made.key)["teacher.json"])
    assert [candidate["score"] for candidate in told["candidates"]] == list(range(29, 9, -1))
    assert told["candidates_tried"] == 30


def test_a_picture_of_long_vectors_is_no_wider_than_one_of_images(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight rows of 20,000 genes made a picture of ten million pixels in width."""
    values = np.zeros((8, 1, 1, 20_000), np.uint8)
    monkeypatch.setattr(evidence, "read_arrays", lambda _: {"originals": values, "reconstructions": values})
    key = row(store, cell(0), "full")["key_judged"]
    picture = Image.open(io.BytesIO(Evidence(store).reconstructions(key)["reconstructions.png"]))
    assert picture.width < 2000
    assert picture.height < 400


def test_pictures_lie_above_their_reconstructions(store: Store) -> None:
    key = row(store, cell(0), "full")["key_judged"]
    picture = np.asarray(Image.open(io.BytesIO(Evidence(store).reconstructions(key)["reconstructions.png"])))
    arrays = safetensors.numpy.load_file(store.path / "obj" / key / "arrays.safetensors")
    assert picture.shape == (2 * 64, 8 * 64)
    assert np.array_equal(picture[:64:8, :64:8], arrays["originals"][0, 0])
    assert np.array_equal(picture[64::8, -64::8], arrays["reconstructions"][-1, 0])


@pytest.mark.parametrize(
    ("file", "facts", "pictures"),
    [("MANIFEST", False, False), ("facts.json", False, True), ("arrays.safetensors", True, False)],
)
def test_what_is_corrupt_is_absent(store: Store, file: str, facts: bool, pictures: bool) -> None:
    key = row(store, cell(0), "full")["key_judged"]
    path = store.path / "obj" / key / file
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    evidence = Evidence(store)
    assert bool(evidence.facts(key)) == facts
    assert bool(evidence.reconstructions(key)) == pictures


@pytest.mark.parametrize("key", [None, "0" * 64])
def test_what_is_not_there_is_absent(store: Store, key: str | None) -> None:
    evidence = Evidence(store)
    assert evidence.facts(key) == evidence.checkpoint(key) == evidence.teacher_report(key) == {}


def test_an_epoch_heard_again_forgets_what_came_after(store: Store) -> None:
    for epoch, total in ((1, 1.0), (2, 2.0), (3, 3.0), (2, 20.0)):
        note(store.disk, CURVES, {"cell": "c", "step": "full", "point": {"epoch": epoch, "total": total}})
    evidence = Evidence(store)
    assert [point["total"] for point in evidence.begun_curve("c", "full")] == [1.0, 20.0]
    assert evidence.begun_steps("c") == ["full"]
    assert evidence.begun_curve("c", "rescue") == []
