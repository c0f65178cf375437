"""Precisions: what the layers multiply in, that losses do not, and that a device without one refuses it by name."""

from dataclasses import replace

import pytest
import torch

from certvae.canonical import digest, plain
from certvae.errors import ConfigFault
from certvae.models.nets import build
from certvae.spec.parts import Conv, Mlp, Model, Training
from certvae.training import environment
from certvae.training.precision import check_precision, multiplying

SHAPE = (1, 8, 8)
MLP = Model(encoder=Mlp(hidden=(32,), latent=4))
CONV = Model(encoder=Conv(channels=(16, 16), hidden=16, latent=4))


def test_the_name_of_fp32_is_what_it_was_before_there_was_a_choice():
    assert "precision" not in plain(Training())
    assert digest(Training()) == digest(Training(precision="fp32"))
    assert len({digest(Training(precision=one)) for one in ("fp32", "tf32", "bf16")}) == 3


@pytest.mark.parametrize("model", [MLP, CONV])
def test_parts_return_float32_and_were_multiplied_in_bf16(model):
    vae = build(model, SHAPE, classes=5, seed=0)
    x = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    exact = vae.encoder(x)
    with multiplying(vae, "bf16"):
        rounded = vae.encoder(x)
        inside = torch.ones(2, 2) @ torch.full((2, 2), 1 + 2.0**-10)
        rounded[0].sum().backward()
    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == torch.float32
        assert not one.equal(other)
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)
    assert inside[0, 0] == 2 + 2.0**-9, "what a loss multiplies itself is not rounded"
    assert all(weight.grad.dtype == torch.float32 for weight in vae.encoder.parameters() if weight.grad is not None)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_nothing_of_it_is_left_behind_even_by_an_error(precision):
    vae = build(MLP, SHAPE, classes=5, seed=0)
    x = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    exact = vae.encoder(x)[0]
    with pytest.raises(ZeroDivisionError), multiplying(vae, precision):
        raise ZeroDivisionError
    assert vae.encoder(x)[0].equal(exact)
    assert "forward" not in vars(vae.encoder)
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_choice_for_all_of_cudnn_does_not_come_through_when_a_step_in_tf32_is_done():
    """torch's older switch leaves convolutions to whatever stands above them."""
    cudnn, vae = torch.backends.cudnn, build(MLP, SHAPE, classes=5, seed=0)
    before = cudnn.fp32_precision
    try:
        cudnn.fp32_precision = "tf32"  # by a notebook, say
        with environment.restored():
            environment.settle()
            for _ in range(2):
                with multiplying(vae, "tf32"):
                    assert cudnn.conv.fp32_precision == "tf32"
                assert cudnn.conv.fp32_precision == cudnn.rnn.fp32_precision == "ieee"
    finally:
        cudnn.fp32_precision = before


def test_tf32_is_switched_on_within_the_block():
    with multiplying(build(MLP, SHAPE, classes=5, seed=0), "tf32"):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32


def test_a_precision_that_a_device_lacks_is_refused_by_name_and_the_remedy_works():
    with pytest.raises(ConfigFault, match="a CPU does not multiply in tf32"):
        check_precision("tf32", "cpu")
    check_precision(replace(Training(precision="tf32"), precision="fp32").precision, "cpu")
    check_precision("bf16", "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_gpu_multiplies_in_it_forward_and_backward(precision):
    check_precision(precision, "cuda:0")
    vae = build(CONV, SHAPE, classes=5, seed=0).to("cuda:0")
    x = torch.rand(64, *SHAPE, device="cuda:0")
    exact = vae.encoder(x)[0]
    with multiplying(vae, precision):
        rounded = vae.encoder(x)[0]
        rounded.sum().backward()
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(exact, rounded, rtol=0.05, atol=0.05)
    assert vae.encoder(x)[0].equal(exact)
