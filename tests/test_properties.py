"""Partitions of the classes: the chain rule, constant students that certify nothing, and collapse in part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certvae.__main__ import main
from certvae.certificate import Pairs, certify
from certvae.properties import coarsened, within

PARTS = ("animal", "animal", "thing", "thing", "thing", "alone")


def rows(seed: int, n: int = 40, classes: int = 6, sharpness: float = 3.0) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).standard_normal((n, classes))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def pairs(teacher: np.ndarray, student: np.ndarray) -> Pairs:
    with np.errstate(divide="ignore"):
        return Pairs(teacher=teacher, log_student=np.log(student), split="guard")


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0.1, 6))
def test_the_margin_is_that_of_the_partition_and_those_within(seed, other, sharpness):
    found = pairs(rows(seed, sharpness=sharpness), rows(other))
    total = certify(coarsened(found, PARTS)).margin + sum(part.margin for part in within(found, PARTS))
    assert total == pytest.approx(certify(found).margin, abs=1e-12)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_constant_student_certifies_no_part(seed, other):
    teacher = rows(seed)
    constant = pairs(teacher, np.tile(rows(other, n=1), (len(teacher), 1)))
    assert certify(coarsened(constant, PARTS)).margin <= 1e-12
    assert all(part.margin <= 1e-12 for part in within(constant, PARTS))


def test_a_head_that_knows_superclasses_alone_has_collapsed_within_them():
    teacher = rows(0)
    codes = np.unique(PARTS, return_inverse=True)[1]
    inside = teacher.mean(axis=0) / np.array([teacher.mean(axis=0)[codes == code].sum() for code in codes])
    student = (teacher @ np.eye(3)[codes])[:, codes] * inside
    found = pairs(teacher, student)
    assert certify(coarsened(found, PARTS)).margin > 0.1
    assert [part.margin for part in within(found, PARTS)] == pytest.approx([0, 0, 0], abs=1e-12)


def test_parts_say_what_they_are():
    teacher = rows(1)
    alone, animal, thing = within(pairs(teacher, teacher), PARTS)
    assert (alone.name, alone.classes, alone.margin) == ("alone", (5,), 0.0)
    assert animal.classes == (0, 1)
    assert alone.share + animal.share + thing.share == pytest.approx(1)
    assert alone.used + animal.used + thing.used == 1
    assert min(animal.margin, thing.margin) > 0


def test_teachers_and_students_with_zeros_are_taken():
    teacher = np.eye(6)[np.arange(12) % 6]
    found = Pairs.from_logits(teacher, np.where(teacher > 0, 0.0, -np.inf), split="guard")
    total = certify(coarsened(found, PARTS)).margin + sum(part.margin for part in within(found, PARTS))
    assert total == pytest.approx(np.log(6))


def test_a_part_that_the_student_excludes_has_no_margin_within():
    teacher = rows(2)
    student = np.where(np.arange(6) < 2, 0.0, rows(3))
    found = pairs(teacher, np.maximum(student, 0) / student.sum(axis=1, keepdims=True))
    assert {part.name: part.margin for part in within(found, PARTS)}["animal"] == -np.inf


def test_the_command_certifies_a_partition_as_well(tmp_path, capsys):
    teacher = rows(0)
    for name, array in (("teacher", teacher), ("logits", np.log(teacher)), ("parts", np.array(PARTS))):
        np.save(tmp_path / f"{name}.npy", array)
    files = [str(tmp_path / f"{name}.npy") for name in ("teacher", "logits", "parts")]
    assert main(["certify", *files[:2], "--partition", files[2]]) == 0
    said = capsys.readouterr().out
    assert "partition of 6 classes into 3: certified, margin +" in said
    assert "within alone     1 classes" in said
    assert main(["certify", *files[:2], "--partition", files[0]]) == 2
    assert "a partition names the part of each of 6 classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parts", "said"),
    [(PARTS[:5], "each of 6 classes"), (["one"] * 6, "at least two parts"), ([PARTS], "each of 6 classes")],
)
def test_a_partition_that_is_none_is_refused(parts, said):
    found = pairs(rows(0), rows(1))
    for function in (coarsened, within):
        with pytest.raises(ValueError, match=said):
            function(found, parts)
