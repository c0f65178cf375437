"""Networks: the laws of a certified head, what the decoder may see, and initial weights that follow from a seed."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from certvae.errors import ConfigFault
from certvae.models.nets import Vae, build, load_weights, weights
from certvae.simplex import vertices
from certvae.spec.parts import Conv, LearnedHead, Mlp, Model, SimplexHead
from tests.laws import RawHeadLaws

MLP = Mlp(hidden=(24, 12), latent=6)
CONV = Conv(channels=(8, 12), hidden=16, latent=6)
MODELS = {
    "perceptron": Model(encoder=MLP, head=LearnedHead(hidden=(8,)), decoder_sees_teacher=True),
    "linear-head": Model(encoder=MLP, head=LearnedHead(hidden=()), decoder_sees_teacher=False),
    "convolutions": Model(encoder=CONV, head=LearnedHead(hidden=(8,)), decoder_sees_teacher=True),
    "no-hidden-layer": Model(encoder=Conv(channels=(8,), hidden=0, latent=6), decoder_sees_teacher=False),
    "simplex": Model(encoder=MLP, head=SimplexHead(beta=5.0), decoder_sees_teacher=False),
}
EVERY_MODEL = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
SHAPE, CLASSES = (3, 8, 8), 4


class TestLinearHead(RawHeadLaws):
    model = MODELS["linear-head"]


class TestDeepHead(RawHeadLaws):
    model = MODELS["perceptron"]


class TestHeadOfConvolutions(RawHeadLaws):
    model = MODELS["convolutions"]
    shape = (3, 16, 8)


class TestSimplexWitness(RawHeadLaws):
    model = MODELS["simplex"]


class Centred(nn.Module):
    """Takes the mean of its batch away."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z - z.mean(dim=0)


class Counting(nn.Module):
    """Remembers how often it was asked."""

    calls = 0

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return z + self.calls


class Positional(nn.Module):
    """Treats the rows of a batch by their place in it."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z + torch.arange(len(z), dtype=z.dtype)[:, None]


@pytest.mark.parametrize(
    ("layer", "law"),
    [
        (Centred(), RawHeadLaws.test_other_rows_of_the_batch_do_not_reach_it),
        (Counting(), RawHeadLaws.test_images_and_teacher_rows_do_not_reach_it),
        (Positional(), RawHeadLaws.test_equal_rows_stay_equal_in_whatever_chunks_they_are_read),
        (nn.Dropout(), RawHeadLaws.test_training_and_evaluation_are_the_same_function),
        (nn.BatchNorm1d(6), RawHeadLaws.test_no_batch_norm_in_it_or_before_it),
    ],
)
def test_each_law_refuses_a_head_that_breaks_it(layer, law):
    class Broken(RawHeadLaws):
        model = MODELS["linear-head"]

        def network(self) -> Vae:
            network = super().network()
            network.head = nn.Sequential(layer, network.head)  # pyright: ignore[reportAttributeAccessIssue]
            return network

    with pytest.raises(AssertionError):
        law(Broken())


@EVERY_MODEL
def test_shapes(model):
    vae = build(model, SHAPE, CLASSES, seed=0)
    mu, logvar = vae.encoder(torch.rand(5, *SHAPE))
    assert mu.shape == logvar.shape == (5, 6)
    assert vae.decoder(mu, torch.full((5, CLASSES), 0.25)).shape == (5, *SHAPE)
    assert vae.head(mu).shape == (5, CLASSES)


@EVERY_MODEL
def test_the_seed_alone_decides_the_weights(model):
    """Not what was drawn before, and nothing that is drawn afterwards."""
    torch.manual_seed(1)
    first = weights(build(model, SHAPE, CLASSES, seed=0))
    torch.manual_seed(2)
    again, other = (weights(build(model, SHAPE, CLASSES, seed=seed)) for seed in (0, 1))
    assert first.keys() == again.keys() == other.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name], strict=True)
        assert array.std() == 0 or not np.array_equal(array, other[name])


@EVERY_MODEL
def test_building_leaves_the_global_generator_alone(model):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    build(model, SHAPE, CLASSES, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@EVERY_MODEL
def test_initial_weights_have_the_distribution_that_torch_gives_its_layers(model):
    wide = Model(encoder=model.encoder, head=model.head, decoder_sees_teacher=model.decoder_sees_teacher)
    for module in build(wide, SHAPE, 40 if isinstance(model.head, LearnedHead) else CLASSES, seed=0).modules():
        if not isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        fan_in, _ = nn.init._calculate_fan_in_and_fan_out(module.weight)
        limit = 1 / math.sqrt(fan_in)
        assert module.bias is not None
        assert 0 < float(module.bias.detach().abs().max()) <= limit
        assert float(module.weight.detach().abs().max()) <= limit
        if module.weight.numel() > 1000:
            assert float(module.weight.detach().std()) == pytest.approx(limit / math.sqrt(3), rel=0.1)


@EVERY_MODEL
def test_weights_go_to_arrays_and_back(model):
    source, target = build(model, SHAPE, CLASSES, seed=0), build(model, SHAPE, CLASSES, seed=1)
    arrays = weights(source)
    load_weights(target, arrays)
    x = torch.rand(3, *SHAPE)
    assert torch.equal(source.encoder(x)[0], target.encoder(x)[0])
    for name, array in weights(target).items():
        np.testing.assert_array_equal(array, arrays[name], strict=True)


def test_arrays_do_not_share_memory_with_the_network():
    vae = build(MODELS["linear-head"], SHAPE, CLASSES, seed=0)
    before = weights(vae)
    kept = {name: array.copy() for name, array in before.items()}
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(1)
    assert all(np.array_equal(before[name], kept[name]) for name in before)


def test_a_missing_or_surplus_name_is_refused():
    vae = build(MODELS["linear-head"], SHAPE, CLASSES, seed=0)
    arrays = weights(vae)
    for wrong in ({**arrays, "surplus": np.zeros(1)}, {name: arrays[name] for name in list(arrays)[1:]}):
        with pytest.raises(RuntimeError):
            load_weights(vae, wrong)


@EVERY_MODEL
def test_the_decoder_reads_the_teacher_row_where_the_model_says_so_and_nowhere_else(model):
    decoder, z = build(model, SHAPE, CLASSES, seed=0).decoder, torch.randn(2, 6)
    rows = torch.eye(CLASSES)[:2]
    seen = not torch.equal(decoder(z, rows), decoder(z, rows.flip(1)))
    assert seen == model.decoder_sees_teacher
    assert torch.equal(decoder(z), decoder(z, torch.full((2, CLASSES), 1 / CLASSES)))


def test_log_variances_are_kept_where_their_exponentials_are_finite():
    vae = build(MODELS["linear-head"], SHAPE, CLASSES, seed=0)
    with torch.no_grad():
        vae.encoder.logvar.bias.copy_(torch.tensor([1e9, -1e9, 0, 0, 0, 0]))
    logvar = vae.encoder(torch.rand(1, *SHAPE))[1].detach()
    assert float(logvar.max()) == 6
    assert float(logvar.min()) == -12


def test_the_simplex_witness_is_fixed():
    """beta V z, without a parameter, a gradient, or an entry among the saved weights."""
    vae = build(MODELS["simplex"], SHAPE, CLASSES, seed=0)
    assert not list(vae.head.parameters())
    assert not vae.head.state_dict()
    z = torch.randn(5, 6)
    expected = 5 * z.double().numpy() @ vertices(CLASSES, 6).T
    np.testing.assert_allclose(vae.head(z).numpy(), expected, rtol=0, atol=1e-5)


def test_a_simplex_that_does_not_fit_is_refused():
    with pytest.raises(ConfigFault, match=r"latent must be >= K - 1 = 7 for a simplex, got 6"):
        build(MODELS["simplex"], SHAPE, 8, seed=0)


def test_an_image_that_cannot_be_halved_so_often_is_refused():
    with pytest.raises(ConfigFault, match="few enough for 6 x 8"):
        build(MODELS["convolutions"], (1, 6, 8), CLASSES, seed=0)
