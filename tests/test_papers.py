"""The printed tables of arXiv 2605.05813 (paper A) and 2605.18224 (paper B), recomputed from rows.

Every printed line is an information, a loss and a margin. Each is rebuilt as teacher and student rows that have
exactly this information and loss, and goes through `certify`: the printed margin, its buffer and its sign must come
back. Four printed digits leave 1.5e-4 for a difference of two of them.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import root_scalar
from scipy.special import entr

from certvae.certificate import Certificate, Pairs, certify
from certvae.quality import PAPER_TAUS

PRINTED = 1.5e-4

# (seed, mode, I_T, L_TS, G at tau = 0.10), K = 100. Seed 2 has a stress-case teacher.
TEACHER_SEARCH = [
    (0, "full", 0.6924, 0.0382, 0.5542),
    (0, "no_align", 0.6389, 4.6051, -4.0662),
    (0, "rescue", 0.6983, 0.0595, 0.5388),
    (1, "full", 0.7774, 0.0662, 0.6112),
    (1, "no_align", 0.6024, 4.6051, -4.1027),
    (1, "rescue", 0.7476, 0.0777, 0.5699),
    (2, "full", 0.2693, 0.0404, 0.1289),
    (2, "no_align", 0.1603, 4.6052, -4.5449),
    (2, "rescue", 0.4294, 0.0485, 0.2809),
]
FIXED_TEACHER = [
    (0, "full", 0.3624, 0.0223, 0.2401),
    (0, "no_align", 0.0686, 4.6052, -4.6366),
    (0, "rescue", 0.5668, 0.0274, 0.4393),
    (1, "full", 0.6472, 0.0262, 0.5210),
    (1, "no_align", 0.1514, 4.6052, -4.5537),
    (1, "rescue", 0.6799, 0.0274, 0.5525),
    (2, "full", 0.2287, 0.0174, 0.1113),
    (2, "no_align", 0.0560, 4.6052, -4.6492),
    (2, "rescue", 0.5127, 0.0144, 0.3984),
]
# (mode or method, I_T, L_TS, G_0), K = 10.
CIFAR_10 = [
    ("full", 1.9127, 0.0385, 1.8742),
    ("no_align", 1.9130, 1.9436, -0.0306),
    ("rescue", 1.6668, 0.0182, 1.6486),
]
MNIST = [
    ("VAE", 2.0189, 5.7026, -3.6837),
    ("RST-VAE", 2.0189, 0.7009, 1.3180),
    ("RST-prefit", 2.0189, 0.7500, 1.2689),
]
# endpoint: G at tau = .05, .10, .20 (paper A). The Tiny-ImageNet-200 rows are means over seeds, K = 200.
TAU_TABLE = {
    "CIFAR-100 full, strict-feasible minimum": (0.6042, 0.5542, 0.4542),
    "CIFAR-100 rescue, strict-feasible minimum": (0.5888, 0.5388, 0.4388),
    "CIFAR-100 seed 2 full": (0.1789, 0.1289, 0.0289),
    "CIFAR-100 seed 2 rescue": (0.3309, 0.2809, 0.1809),
    "Tiny full": (5.0749, 5.0249, 4.9249),
    "Tiny no_align": (0.0348, -0.0152, -0.1152),
    "Tiny rescue": (5.0767, 5.0267, 4.9267),
}


def solve(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    return root_scalar(lambda x: function(x) - target, bracket=(low, high), xtol=1e-14).root


def softened(classes: int, share: float) -> np.ndarray:
    """One row per class: share on all alike, the rest on its own class."""
    return (1 - share) * np.eye(classes) + share / classes


def rebuilt(classes: int, info: float, loss: float) -> Certificate:
    """The certificate of a balanced teacher with information `info`, and a student at distance `loss` from it.

    The student is the teacher with its logits scaled: by 1 at loss 0, by 0 at loss I_T, to the wrong side beyond.
    """
    share = solve(lambda x: math.log(classes) - entr(softened(classes, x)[0]).sum(), info, 1e-12, 1.0)
    teacher = softened(classes, share)

    def student(scale: float) -> Pairs:
        return Pairs.from_logits(teacher, scale * np.log(teacher), split="certify")

    return certify(student(solve(lambda scale: certify(student(scale)).loss, loss, -200.0, 1.0)))


def collapsed(classes: int, entropy: float) -> Certificate:
    """A certain teacher of two clusters with H(Tbar) = `entropy`, and the uniform student."""
    first = solve(lambda p: entr([p, 1 - p]).sum(), entropy, 0.0, 0.5)
    teacher = np.eye(classes)[(np.arange(50_000) < round(first * 50_000)).astype(int)]
    return certify(Pairs.from_logits(teacher, np.zeros_like(teacher), split="certify"))


@pytest.mark.parametrize(("seed", "mode", "info", "loss", "printed"), TEACHER_SEARCH + FIXED_TEACHER)
def test_every_cifar_100_row_is_the_margin_at_a_tenth_of_a_nat(seed, mode, info, loss, printed):
    certificate = rebuilt(100, info, loss)
    assert (certificate.info, certificate.loss) == pytest.approx((info, loss), abs=1e-9)
    assert certificate.at(0.10) == pytest.approx(printed, abs=PRINTED)
    assert certificate.certified_at(0.10) is (mode != "no_align")


@pytest.mark.parametrize(("row", "info", "loss", "printed"), CIFAR_10 + MNIST)
def test_every_cifar_10_and_mnist_row_is_the_bare_margin(row, info, loss, printed):
    certificate = rebuilt(10, info, loss)
    assert certificate.margin == pytest.approx(printed, abs=PRINTED)
    assert certificate.certified_rows is (row not in ("no_align", "VAE"))


@pytest.mark.parametrize(
    ("info", "loss", "printed", "imbalance"),
    [
        (0.6389, 4.6051, -4.0662, 3.9662),
        (0.6024, 4.6051, -4.1027, 4.0027),
        (0.1603, 4.6052, -4.5449, 4.4449),
        (0.0686, 4.6052, -4.6366, 4.5366),
        (0.1514, 4.6052, -4.5537, 4.4537),
        (0.0560, 4.6052, -4.6492, 4.5492),
    ],
)
def test_cifar_100_without_alignment_is_a_uniform_student_of_a_certain_teacher(info, loss, printed, imbalance):
    """L_TS = ln 100 needs S = U and E H(T) = 0 on every row; the margin is then minus the teacher's imbalance."""
    certificate = collapsed(100, info)
    assert certificate.loss == pytest.approx(loss, abs=1e-4)
    assert certificate.imbalance == pytest.approx(imbalance, abs=PRINTED)
    assert certificate.at(0.10) == pytest.approx(-certificate.imbalance - 0.10, abs=1e-12)
    assert certificate.at(0.10) == pytest.approx(printed, abs=PRINTED)


def test_cifar_10_without_alignment_is_a_uniform_student_of_a_teacher_off_balance():
    """The bare margin -.0306 is KL(Tbar || U): the best constant would have scored 0."""
    power = solve(lambda power: math.log(10) - entr(zipf(10, power)).sum(), 0.0306, 0.0, 2.0)
    teacher = np.repeat(np.eye(10), np.rint(10_000 * zipf(10, power)).astype(int), axis=0)
    constants = {"uniform": np.zeros(10), "best": np.log(teacher.mean(axis=0))}
    margins = {
        name: certify(Pairs.from_logits(teacher, np.tile(row, (len(teacher), 1)), split="certify")).margin
        for name, row in constants.items()
    }
    assert margins == pytest.approx({"uniform": -0.0306, "best": 0.0}, abs=PRINTED)


def zipf(classes: int, power: float) -> np.ndarray:
    """Class weights that fall off as a power of the rank."""
    weights = np.arange(1, classes + 1) ** -power
    return weights / weights.sum()


@pytest.mark.parametrize(("row", "printed"), TAU_TABLE.items())
def test_the_tau_table_is_one_margin_read_three_times(row, printed):
    classes, bare = 200 if row.startswith("Tiny") else 100, printed[0] + 0.05
    certificate = rebuilt(classes, max(bare, 0.1) + 0.01, max(bare, 0.1) + 0.01 - bare)
    assert [certificate.at(tau) for tau in PAPER_TAUS] == pytest.approx(printed, abs=1e-9)
    signs = [True, False, False] if row == "Tiny no_align" else [True, True, True]
    assert [certificate.certified_at(tau) for tau in PAPER_TAUS] == signs


@pytest.mark.parametrize("mode", ["full", "rescue"])
def test_the_strict_feasible_minimum_of_the_tau_table_leaves_the_stress_case_out(mode):
    margins = {seed: rebuilt(100, info, loss) for seed, name, info, loss, _ in TEACHER_SEARCH if name == mode}
    printed = TAU_TABLE[f"CIFAR-100 {mode}, strict-feasible minimum"]
    feasible = [min(margins[seed].at(tau) for seed in (0, 1)) for tau in PAPER_TAUS]
    assert feasible == pytest.approx(printed, abs=PRINTED)
    assert [margins[2].at(tau) for tau in PAPER_TAUS] == pytest.approx(
        TAU_TABLE[f"CIFAR-100 seed 2 {mode}"], abs=PRINTED
    )


def test_tiny_imagenet_margins_need_two_hundred_classes():
    """A bare margin of 5.1267 exceeds ln 168, and leaves a loss of at most .1716 at K = 200."""
    bare = TAU_TABLE["Tiny rescue"][1] + 0.10
    assert math.exp(bare) == pytest.approx(168.46, abs=0.01)
    perfect = certify(Pairs.from_logits(np.eye(168), 1e3 * np.eye(168), split="certify"))
    assert perfect.margin < bare
    full = rebuilt(200, math.log(200) - 1e-9, 0.1734)
    assert full.margin == pytest.approx(5.1249, abs=PRINTED)


def test_the_bare_tiny_margin_without_alignment_is_positive():
    """So the three witnesses behind this mean are not all constant, whatever tau says."""
    bare = TAU_TABLE["Tiny no_align"][1] + 0.10
    assert bare == pytest.approx(0.0848, abs=1e-9)
    tilted = certify(Pairs.from_logits(np.eye(200), bare * np.eye(200), split="certify"))
    assert (tilted.certified_rows, tilted.certified_at(0.10)) == (True, False)
