"""Encoders trained elsewhere: planted codes get the words that they deserve, whatever type their rows come in."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from certvae import certify_latents, fit_teacher
from certvae.__main__ import main
from certvae.errors import ConfigFault, ExitCode, TeacherFault
from certvae.latents import NARROW, WIDE

K, N, M = 4, 900, 500


def rows(n: int, seed: int):
    """Features in K clouds, and the number of each row's cloud."""
    generator = np.random.default_rng(seed)
    kind = generator.integers(0, K, n)
    return 6 * np.eye(K, 5)[kind] + generator.normal(size=(n, 5)), kind


F_TRAIN, KIND_TRAIN = rows(N, 0)
F, KIND = rows(M, 1)


def code(kind: np.ndarray, scale: float, seed: int) -> np.ndarray:
    """Means (n, 3) that vary with the cloud by `scale`."""
    return scale * np.random.default_rng(7).normal(size=(K, 3))[kind] + 1e-6 * np.random.default_rng(seed).normal(
        size=(len(kind), 3)
    )


def logvars(value: float):
    return np.full((N, 3), value), np.full((M, 3), value)


def judged(scale: float, logvar: float | None = None, **more):
    """Codes of this scale, with posteriors of this log-variance."""
    given = {} if logvar is None else {"logvar": logvars(logvar)}
    train, certify = (code(KIND_TRAIN, scale, 2), F_TRAIN), (code(KIND, scale, 3), F)
    return certify_latents(train, certify, classes=K, **given, **more)


def test_it_may_be_asked_where_gradients_are_off_or_underflow_is_an_error():
    """As where embeddings are made: to fit a head takes gradients. Far from a cloud its share is 0."""
    train, certify = (code(KIND_TRAIN, 2.0, 2), 10 * F_TRAIN), (code(KIND, 2.0, 3), 10 * F)
    wanted = certify_latents(train, certify, classes=K).as_row()
    with torch.inference_mode(), np.errstate(all="raise"):
        assert certify_latents(train, certify, classes=K).as_row() == wanted


def test_a_healthy_code_is_certified_varies_and_is_alive():
    found = judged(2.0, logvar=-4.0)
    assert (found.head, found.mean, found.channel, found.collapsed) == ("certified", "varies", "alive", False)
    assert found.on_means.reference == "train"
    assert found.teacher.verdict.status == "strict-feasible"
    assert found.on_means.population_bound < found.on_means.margin < np.log(K)
    assert "strict-feasible" in repr(found) == str(found)
    assert repr(found.on_means) == found.on_means.summary()


def test_a_code_that_the_noise_drowns_is_dead_though_its_means_vary():
    """A head of a large gain still certifies the means: that is no life of the channel."""
    found = judged(0.02, logvar=0.0)
    assert (found.head, found.mean, found.channel, found.collapsed) == ("certified", "below the noise", "dead", True)
    assert found.kl_rate < 0.05


def test_a_code_that_ignores_the_image_is_not_certified():
    z_train, z = (np.random.default_rng(seed).normal(size=(n, 3)) for seed, n in ((5, N), (6, M)))
    found = certify_latents((z_train, F_TRAIN), (z, F), classes=K)
    assert (found.head, found.mean, found.channel) == ("not certified", "not shown", None)
    assert found.on_means.margin <= 0.01
    assert "not looked at" in found.summary()


def test_draws_of_ours_are_not_refused_where_an_image_repeats():
    """A bound is about images that differ, and the KL rate was of all rows: the remedy was to leave draws away."""
    blanks = np.zeros((len(KIND), 3)), np.zeros((len(KIND), F.shape[1]))
    z = code(KIND, 1.0, 3)
    rows = [np.vstack(pair) for pair in zip((z, F), (blanks[0][:, : z.shape[1]], blanks[1]), strict=True)]
    small = [np.full_like(one, -6.0) for one in (code(KIND_TRAIN, 1.0, 2), rows[0])]
    small[1][len(KIND) :] = 0.0
    found = certify_latents((code(KIND_TRAIN, 1.0, 2), F_TRAIN), tuple(rows), classes=K, logvar=tuple(small))
    assert found.rows.facts["distinct"] == len(KIND) + 1


def test_means_that_are_given_for_draws_are_refused():
    """A dead channel was alive: its means, read with enough gain, say more than the KL rate allows."""
    means = code(KIND_TRAIN, 0.02, 2), code(KIND, 0.02, 3)
    for draws in (means, means[1]):
        with pytest.raises(ConfigFault, match="draws carry at least 1") as caught:
            judged(0.02, logvar=0.0, draws=draws)
    assert "leave draws away" in caught.value.remedy
    assert judged(0.02, logvar=0.0).channel == "dead"
    noise = np.random.default_rng(9)
    drawn = tuple(one + noise.normal(size=one.shape) for one in means)
    assert judged(0.02, logvar=0.0, draws=drawn).channel == "dead"


@pytest.mark.parametrize("pair", [False, True])
def test_draws_tell_of_the_channel_without_a_logvar(pair):
    z_train, z = code(KIND_TRAIN, 2.0, 2), code(KIND, 2.0, 3)
    noise = np.random.default_rng(9)
    drawn = z_train + 0.3 * noise.normal(size=z_train.shape), z + 0.3 * noise.normal(size=z.shape)
    found = certify_latents((z_train, F_TRAIN), (z, F), classes=K, draws=drawn if pair else drawn[1])
    assert (found.channel, found.kl_rate) == ("alive", None)
    assert found.posterior_std == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize(("logvar", "said"), [(-2.0, False), (0.1, True)])
def test_a_scale_in_the_place_of_its_logarithm_is_noticed(logvar, said):
    assert ("give logarithms of variances" in str(judged(1.0, logvar=logvar))) == said


def test_tensors_with_gradients_data_frames_and_sparse_matrices_are_taken():
    plain = judged(1.0, logvar=-2.0).as_row()
    tensors = certify_latents(
        tuple(torch.tensor(one, requires_grad=True) for one in (code(KIND_TRAIN, 1.0, 2), F_TRAIN)),
        (pd.DataFrame(code(KIND, 1.0, 3)), scipy.sparse.csr_matrix(F)),
        logvar=tuple(torch.tensor(one, requires_grad=True) for one in logvars(-2.0)),
        classes=K,
    )
    assert tensors.as_row() == plain


def test_a_teacher_may_be_fitted_beforehand_and_read_on_other_rows():
    teacher = fit_teacher(F_TRAIN, classes=K)
    assert teacher.rows(torch.from_numpy(F).requires_grad_()).shape == (M, K)
    found = judged(2.0, teacher=teacher)
    assert found.teacher is teacher
    assert found.on_means.margin == judged(2.0).on_means.margin


def test_wide_features_are_narrowed_before_a_mixture_is_fitted():
    """A mixture on the pixels of colour photographs took minutes for each of its fits, in silence."""
    wide = np.random.default_rng(0).normal(size=(F_TRAIN.shape[1], WIDE + 1))
    found = certify_latents((code(KIND_TRAIN, 2.0, 2), F_TRAIN @ wide), (code(KIND, 2.0, 3), F @ wide), classes=K)
    assert found.head == "certified"
    assert found.teacher.mixture.arrays["means_"].shape[1] <= NARROW
    with pytest.raises(ConfigFault, match=r"shape \(5,\), those that the teacher was fitted to \(1025,\)"):
        found.teacher.rows(F)


@pytest.mark.parametrize("of", [list, np.stack, lambda rows: np.concatenate([*rows.reshape(10, -1, *rows.shape[1:])])])
def test_features_may_be_images(of):
    train, certify = (code(KIND_TRAIN, 2.0, 2), of(F_TRAIN[:, None, None])), (code(KIND, 2.0, 3), of(F[:, None, None]))
    assert certify_latents(train, certify, classes=K).head == "certified"


@pytest.mark.parametrize("looks", [1, 4])
def test_looks_share_the_error_probability(looks):
    assert judged(2.0, looks=looks).on_means.looks == looks
    assert judged(2.0, looks=4).on_means.population_bound <= judged(2.0, looks=looks).on_means.population_bound


Z_TRAIN, Z = code(KIND_TRAIN, 1.0, 2), code(KIND, 1.0, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": Z_TRAIN}, r"train must be \(z, f\)"),
        ({"train": (Z_TRAIN[:-1], F_TRAIN)}, r"features have shape \(900,\), latents \(899,\)"),
        ({"certify": (Z[:, :2], F)}, r"certify: latents have shape \(2,\), train: latents \(3,\)"),
        ({"certify": (Z, F[:, :2])}, r"certify: features have shape \(2,\)"),
        ({"certify": (Z * np.nan, F)}, "500 of 500 rows of certify: latents are not finite"),
        ({"certify": (Z[:, 0], F)}, r"must have shape \(n, d\), got \(500,\)"),
        ({"certify": ([["a"]], F)}, "must be numbers"),
        ({"certify": (torch.zeros(2, 3, dtype=torch.bfloat16), F)}, "turn bfloat16 into float32"),
        ({"certify": (torch.distributions.Normal(torch.tensor(Z), 1.0), F)}, "a distribution into its mean"),
        (
            {"certify": (list(Z.reshape(10, -1, 3)), F)},
            r"arrays of shape \(50, 3\) .* numpy.concatenate",
        ),
        ({"draws": Z[:3]}, "draws of certify have shape"),
        ({"draws": (Z_TRAIN, Z, Z)}, "draws must be"),
        ({"logvar": np.zeros((M, 3))}, "logvar must be"),
        ({"logvar": (np.zeros((M, 3)), np.zeros((M, 3)))}, "logvar of train have shape"),
        ({"logvar": (np.zeros((N, 3)), np.full((M, 3), 800.0))}, "logvar must be 88.72 at most, got 800"),
        ({"classes": 1}, "classes must be >= 2"),
    ],
)
def test_rows_that_do_not_belong_together_are_told(change, said):
    given = {"train": (Z_TRAIN, F_TRAIN), "certify": (Z, F), "classes": K, **change}
    with pytest.raises(ConfigFault, match=said):
        certify_latents(**given)


def test_means_are_held_against_no_noise_that_nobody_knows():
    found = judged(0.02)
    assert (found.head, found.mean, found.posterior_std) == ("certified", "not shown", None)
    assert "posterior standard deviation unknown without logvar" in found.summary()
    assert judged(2.0, logvar=-4.0).mean == "varies"


@pytest.mark.parametrize("option", [{"delta": 2}, {"delta": 0.0}, {"looks": 0}, {"looks": 1.5}, {"seed": -1}])
def test_an_option_out_of_range_is_told_before_anything_is_fitted(option):
    with pytest.raises(ConfigFault, match=next(iter(option))):
        judged(2.0, **option)


def test_fewer_rows_than_components_are_told():
    with pytest.raises(TeacherFault, match="50 components for 16 rows") as caught:
        fit_teacher(F_TRAIN[:20], classes=50)
    assert "or fewer classes" in caught.value.remedy
    assert fit_teacher(F_TRAIN[:20], classes=2).quality.classes == 2


def test_rows_that_were_trained_on_make_no_claim_about_the_population():
    found = certify_latents((Z_TRAIN, F_TRAIN), (Z_TRAIN, F_TRAIN), classes=K, logvar=(logvars(-4.0)[0],) * 2)
    assert (found.head, found.mean, found.channel) == (None, None, "open")
    assert found.on_means.certified_population is None
    assert found.on_means.certified_rows
    assert found.as_row()["population_bound"] is None
    assert "900 of 900 certify rows lie in other splits (900 in train): no claim about the population" in str(found)
    assert "head     no claim" in str(found)
    assert "lower bound withheld" in str(found)


def test_a_few_such_rows_are_left_out_of_bounds_and_repetitions_count_once():
    z, f = Z.copy(), F.copy()
    z[:4], f[:4] = Z_TRAIN[:4], F_TRAIN[:4]
    z[10:60], f[10:60] = z[9], f[9]
    found = certify_latents((Z_TRAIN, F_TRAIN), (z, f), classes=K)
    kept = np.r_[4:10, 60:M]
    alone = certify_latents((Z_TRAIN, F_TRAIN), (z[kept], f[kept]), classes=K)
    assert found.on_means.population_bound == pytest.approx(alone.on_means.population_bound)
    assert (found.on_means.n, alone.on_means.n) == (M, len(kept))
    assert found.head == "certified"
    assert "4 of 500 certify rows lie in other splits (4 in train): the bound leaves them out" in str(found)
    assert "50 certify rows repeat another one" in str(found)


def test_an_image_that_was_encoded_again_is_found_by_its_features():
    """Its latent differs by rounding: another batch, or another device."""
    found = certify_latents((Z_TRAIN, F_TRAIN), (Z_TRAIN[:M] + 1e-7, F_TRAIN[:M]), classes=K)
    assert found.rows.facts["in_train"] == M
    assert found.head is None


@pytest.mark.parametrize("kept", [np.float16, np.float32])
def test_so_is_one_whose_features_were_kept_in_fewer_digits(kept):
    """Of the train rows or of the certify rows: every row was in train, and the claim about the population stood."""
    fewer = F_TRAIN.astype(kept)
    for train, certify in ((fewer, F_TRAIN[:M]), (F_TRAIN, torch.from_numpy(fewer[:M]))):
        found = certify_latents((Z_TRAIN, train), (Z_TRAIN[:M], certify), classes=K)
        assert found.rows.facts["in_train"] == M
        assert found.head is None


def test_it_is_found_among_train_rows_some_of_which_repeat_too():
    """Bootstrapped rows, or each image five times. Two per cent that repeated hid every leak."""
    n = len(Z_TRAIN)
    for drawn in (np.random.default_rng(0).integers(n, size=n), np.tile(np.arange(n), 5)):
        shared = drawn[:M]
        found = certify_latents((Z_TRAIN[drawn], F_TRAIN[drawn]), (Z_TRAIN[shared] + 1e-7, F_TRAIN[shared]), classes=K)
        assert found.rows.facts["in_train"] == M
        assert found.head is None


def test_labels_as_features_are_shared_by_images_and_tell_of_no_leak():
    """All claims were withheld: every certify row had the features of a train row."""
    train, certify = (Z_TRAIN, np.eye(K)[KIND_TRAIN]), [Z.copy(), np.eye(K)[KIND]]
    found = certify_latents(train, tuple(certify), classes=K)
    assert found.rows.facts == {"n": M, "in_train": 0, "in_guard": 0, "leaked": 0, "distinct": M}
    assert found.head == "certified"
    for rows, leaked in zip(certify, train, strict=True):
        rows[:4] = leaked[:4]
        rows[5] = rows[4]
    facts = certify_latents(train, tuple(certify), classes=K).rows.facts
    assert (facts["in_train"], facts["distinct"]) == (4, M - 1)


@pytest.mark.parametrize(("levels", "head"), [(None, "certified"), (0.0, "not certified")])
def test_a_code_of_few_values_beside_labels_tells_of_no_leak_either(levels, head):
    """Nothing tells such images apart: of a code that is constant every certify row was said to lie in train."""
    z_train, z = (np.sign(one) if levels is None else one * levels for one in (Z_TRAIN, Z))
    found = certify_latents((z_train, np.eye(K)[KIND_TRAIN]), (z, np.eye(K)[KIND]), classes=K)
    assert (found.rows.facts["leaked"], found.rows.facts["distinct"]) == (0, M)
    assert found.head == head
    assert "rows     latents and features of few values tell no image from another" in str(found)


def test_the_command_prints_the_same_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, array in {"z_train": Z_TRAIN, "f_train": F_TRAIN, "z": Z, "f": F, "drawn": Z}.items():
        np.save(f"{name}.npy", array)
    np.save("v_train.npy", logvars(-2.0)[0])
    np.save("v.npy", logvars(-2.0)[1])
    files = ["--train", "z_train.npy", "f_train.npy", "--certify", "z.npy", "f.npy", "--classes", str(K)]
    assert main(["certify-latents", *files, "--logvar", "v_train.npy", "v.npy"]) == ExitCode.DONE
    assert capsys.readouterr().out.strip() == judged(1.0, logvar=-2.0).summary()
    assert main(["certify-latents", *files, "--draws", "drawn.npy"]) == ExitCode.DONE
    assert "channel  alive" in capsys.readouterr().out
    np.save("z.npy", np.zeros((M, 3)))
    assert main(["certify-latents", *files]) == ExitCode.BUG
    assert "head     not certified" in capsys.readouterr().out
    assert main(["certify-latents", *files, "--draws", "drawn.npy", "drawn.npy", "z.npy"]) == ExitCode.WRONG_INPUT
    assert main(["certify-latents", *files, "--draws", "gone.npy"]) == ExitCode.WRONG_INPUT
    assert "no array can be read" in capsys.readouterr().err
    assert main(["certify-latents", *files[:-1], "2000"]) == ExitCode.WRONG_INPUT
    assert "fewer classes" in capsys.readouterr().err
    np.savez("several.npz", Z)
    assert main(["certify-latents", *files, "--draws", "several.npz"]) == ExitCode.WRONG_INPUT
    np.save("z_train.npy", Z_TRAIN[:5])
    np.save("f_train.npy", F_TRAIN[:5])
    assert main(["certify-latents", *files, "--classes", "10"]) == ExitCode.WRONG_INPUT
    assert "E-TEACH: 10 components for 4 rows" in capsys.readouterr().err
