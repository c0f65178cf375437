"""Programs and teachers of a bundle are the networks and teachers that they were written from, in float64."""

import numpy as np
import pytest
import torch

from certvae.bundle import Written, mixture_arrays
from certvae.models.nets import build
from certvae.spec.parts import Conv, LearnedHead, Mlp, Model, SimplexHead
from certvae.teachers import kinds, mixture
from certvae.teachers.mixture import Mixture, Start, pca
from certvae.verifier.programs import programs
from certvae.verifier.teacher import shifted, teacher

SUMMED = 1e3  # numbers of which a layer adds products up
CLOSE = {"rtol": SUMMED * np.finfo(np.float64).eps, "atol": SUMMED * np.finfo(np.float64).eps}
NETWORKS = {
    "perceptron": (Model(encoder=Mlp(hidden=(32, 16), latent=12), head=LearnedHead(hidden=(8,))), (1, 8, 8)),
    "linear head": (Model(encoder=Mlp(hidden=(32,), latent=12), head=LearnedHead(hidden=())), (1, 8, 8)),
    "convolutions": (Model(encoder=Conv(channels=(8, 12), hidden=16, latent=12), head=LearnedHead()), (3, 16, 16)),
    "convolutions alone": (Model(encoder=Conv(channels=(8,), hidden=0, latent=12)), (3, 8, 8)),
    "simplex": (Model(encoder=Mlp(hidden=(32,), latent=12), head=SimplexHead(beta=5.0)), (1, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_as_programs(name):
    model, shape = NETWORKS[name]
    vae, written = build(model, shape, 4, seed=0), Written()
    images = np.random.default_rng(0).integers(0, 256, (600, *shape)).astype(np.uint8)
    given = {**written.encoder(vae.encoder), "head": written.program("z", vae.head, "head")}
    made = programs(given, written.weights)
    hidden = made["body"](images, 1 / 255)
    with torch.inference_mode():
        mu, logvar = vae.double().encoder(torch.from_numpy(images / 255))
        logits = vae.head(mu)
    np.testing.assert_allclose(made["mu"](hidden), mu.numpy(), **CLOSE)
    np.testing.assert_allclose(made["logvar"](hidden), logvar.numpy(), **CLOSE)
    np.testing.assert_allclose(made["head"](mu.numpy()), logits.numpy(), **CLOSE)


@pytest.mark.parametrize("temperature", [1.0, 1.5])
@pytest.mark.parametrize("whitened", [0, 3])
@pytest.mark.parametrize("covariance", ["diag", "tied", "spherical", "full"])
def test_a_mixture_as_a_teacher(covariance, whitened, temperature):
    """On features that the images hold themselves; the teacher of a store keeps its rows in float32."""
    features = np.random.default_rng(0).normal([0, 3, -2, 1], [1, 2, 0.5, 1], (400, 4))
    features[:200] += 2
    found = pca(features, whitened)
    points = mixture.whiten(features, found)
    fit = mixture.fit(points, Start(points, 3, seed=0), covariance, 1e-3, 20, "cpu")
    arrays = {**fit.mixture.arrays, **found}
    wanted = Mixture(covariance, arrays).teacher(features, temperature=temperature, smoothing=0.02)
    told = {"kind": "features", "temperature": temperature, "smoothing": 0.02}
    rows = teacher(told, mixture_arrays(covariance, arrays), lambda images, _: images, 1.0)(features, {})
    np.testing.assert_allclose(rows, wanted, atol=4 * np.finfo(np.float32).eps)


def test_views_are_those_of_the_teacher():
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 6, 5)).astype(np.uint8)
    views = np.array(kinds.shifts(1))
    wanted = np.stack([kinds.shifted(image[None], tuple(view))[0] for image, view in zip(images, views, strict=True)])
    np.testing.assert_array_equal(shifted(images, views), wanted)
