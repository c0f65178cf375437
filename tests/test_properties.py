"""Partitions of the classes: the chain rule, constant students that certify nothing, and collapse in part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certvae.__main__ import main
from certvae.certificate import Pairs, certify
from certvae.properties import coarsened, levels, merged, summary, within

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


def test_a_part_of_which_the_student_excludes_a_class_has_no_finite_margin_either():
    student = np.where(np.arange(6) == 0, 0.0, rows(3, n=1))
    found = pairs(rows(2, n=1), student / student.sum(axis=1, keepdims=True))
    assert {part.name: part.margin for part in within(found, PARTS)}["animal"] == -np.inf
    assert "margin -inf" in summary(found, PARTS)


@pytest.mark.parametrize("gain", [1.0, 300.0, 3000.0])
def test_logits_of_any_size_give_the_margins_of_their_logarithms(gain):
    """A part of probability e^-3000 is one, though no float64 holds it."""
    teacher = rows(4, sharpness=0.1)
    found = Pairs.from_logits(teacher, gain * np.log(rows(5)), split="guard")
    partition, inside = certify(coarsened(found, PARTS)), within(found, PARTS)
    assert np.isfinite(partition.margin)
    total = partition.margin + sum(part.margin for part in inside)
    assert total == pytest.approx(certify(found).margin, rel=1e-12, abs=1e-12)


def test_draws_make_no_claim_about_rows_within_a_partition_either():
    teacher = rows(0)
    drawn = Pairs(teacher=teacher, log_student=np.log(teacher), split="guard", view="sampled")
    said = summary(drawn, PARTS)
    assert certify(drawn).certified_rows is None
    assert "certified" not in said
    assert said.count("no claim, margin +") == 3


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


class TestMerged:
    def test_levels_are_nested_and_have_as_many_parts_as_asked_for(self):
        teacher = rows(0, classes=8)
        coarse, middle, fine = merged(teacher, (2, 5, 8))
        assert [len(set(parts)) for parts in (coarse, middle, fine)] == [2, 5, 8]
        assert fine.tolist() == list(range(8))
        assert all(len(set(coarse[middle == part])) == 1 for part in set(middle))

    @given(st.integers(0, 10_000), st.floats(0.1, 6))
    def test_a_coarser_teacher_knows_less_and_its_student_loses_less(self, seed, sharpness):
        """Data processing, of I_T and of KL(T || S)."""
        found = pairs(rows(seed, sharpness=sharpness), rows(seed + 1))
        finest = certify(found)
        known = [certify(coarsened(found, parts)) for parts in merged(found.teacher, (2, 3, 5, 6))]
        infos, losses = [one.info for one in known], [one.loss for one in known]
        assert (infos, losses) == (sorted(infos), sorted(losses))
        assert (infos[-1], losses[-1]) == pytest.approx((finest.info, finest.loss), abs=1e-12)

    def test_each_merging_costs_the_least_that_any_pair_does(self):
        found = pairs(rows(3), rows(4))
        (parts,) = merged(found.teacher, (5,))
        every = [np.where(np.arange(6) == i, j, np.arange(6)) for i in range(6) for j in range(i)]
        assert certify(coarsened(found, parts)).info == max(certify(coarsened(found, one)).info for one in every)

    def test_merging_components_is_merging_their_posteriors(self):
        """Of a mixture of normals: the posterior of sums of weighted densities is the sum of posteriors."""
        generator = np.random.default_rng(0)
        x, means, weights = generator.normal(size=(50, 1)), generator.normal(size=6), rows(1, n=1)[0]
        joint = weights * np.exp(-0.5 * (x - means) ** 2)
        T = joint / joint.sum(axis=1, keepdims=True)
        (parts,) = merged(T, (3,))
        density = np.stack([joint[:, parts == part].sum(axis=1) for part in range(3)], axis=1)
        assert coarsened(pairs(T, T), parts).teacher == pytest.approx(density / density.sum(axis=1, keepdims=True))

    def test_images_do_not_tell_apart_what_is_merged_first(self):
        """Two classes that share their images, beside four that do not."""
        teacher = np.eye(6)[np.arange(60) % 6]
        teacher[:, [1, 4]] = teacher[:, [1, 4]].mean(axis=1, keepdims=True)
        (parts,) = merged(teacher, (5,))
        assert parts[1] == parts[4]

    def test_each_level_has_a_margin_of_its_own(self):
        found = pairs(rows(0), np.tile(rows(1, n=1), (40, 1)))
        known = levels(found, merged(found.teacher, (2, 4)))
        assert (known["level_1_classes"], known["level_2_classes"]) == (2, 4)
        assert max(known["level_1_margin"], known["level_2_margin"]) <= 1e-12
