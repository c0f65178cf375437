"""Sizes of networks: a mistyped one is refused by name and bound, and the remedy works."""

from dataclasses import replace

import pytest

from certvae.errors import ConfigFault
from certvae.models.nets import build
from certvae.spec.baselines import VqVae
from certvae.spec.parts import Conv, Data, LearnedHead, Mlp, Model, SimplexHead
from certvae.spec.teachers import WarmUpGmm

LARGEST = 1_048_576
COLOUR = (3, 64, 64)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: Mlp(latent=10**12), "latent must be >= 1 and <= 65536, got 1000000000000 | Mlp.latent"),
        (lambda: Conv(latent=65_537), "latent must be >= 1 and <= 65536, got 65537 | Conv.latent"),
        (lambda: Mlp(hidden=(512, 10**9)), "hidden[1] must be >= 1 and <= 1048576, got 1000000000 | Mlp.hidden[1]"),
        (lambda: Conv(channels=(10**9,)), "channels[0] must be >= 1 and <= 1048576"),
        (lambda: Conv(hidden=10**9), "hidden must be >= 0 and <= 1048576"),
        (lambda: LearnedHead(hidden=(10**9,)), "hidden[0] must be >= 1 and <= 1048576"),
        (lambda: VqVae(codes=10**9), "codes must be >= 2 and <= 65536"),
        (lambda: WarmUpGmm(classes=10**9), "classes must be >= 2 and <= 65536"),
        (lambda: Data(size=10**9), "size must be >= 8 and <= 4096"),
    ],
)
def test_a_size_without_measure_is_refused_by_name(given, said):
    with pytest.raises(ConfigFault) as caught:
        given()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "parts",
    [
        {"encoder": Mlp(hidden=(LARGEST, LARGEST))},
        {"encoder": Conv(channels=(64, LARGEST, LARGEST))},
        {"encoder": Conv(hidden=LARGEST, latent=65_536)},
        {"head": LearnedHead(hidden=(LARGEST, LARGEST))},
    ],
)
def test_too_many_parameters_are_refused_before_anything_starts(parts):
    with pytest.raises(ConfigFault, match=r"parameters must be <= 2,147,483,648, got \d+ \| Model.parameters"):
        Model(**parts)


def test_what_the_images_add_is_refused_before_it_is_allocated():
    """2^20 units on 64 x 64 colour pixels: 26 thousand million parameters, 100 GB that nobody allocates."""
    model = Model(encoder=Mlp(hidden=(LARGEST,), latent=16), head=SimplexHead(), decoder_sees_teacher=False)
    with pytest.raises(ConfigFault, match=r"got 258\d{8} \| Model.parameters .* make the layers narrower"):
        build(model, COLOUR, 10, seed=0)
    narrower = replace(model, encoder=Mlp(hidden=(64,), latent=16))
    assert build(narrower, COLOUR, 10, seed=0).encoder.mu.out_features == 16
