"""Encoders as users of other libraries write them: how modules are reached, what they are given, what they return."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial, wraps
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Laplace, Normal

from certvae import Monitor
from certvae.errors import ConfigFault

N, K = 100, 4
TEACHER = np.eye(K)[np.arange(N) % K]
NETWORK = nn.Identity()
IMAGES = torch.tensor(np.eye(K, 12)[np.arange(N) % K], dtype=torch.float32)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 3))


class Loop:
    """A training loop as a class that is no module."""

    def __init__(self, net: nn.Module):
        self.parts = {"encoder": net}

    def encode(self, x):
        return self.parts["encoder"](x)


@dataclass(slots=True)
class Slotted:
    """As attrs makes them by default."""

    net: nn.Module


def given_to(net):
    """A decorator with a parameter."""

    def decorate(function):
        @wraps(function)
        def inner(x):
            return function(net, x)

        return inner

    return decorate


def slotted(net):
    holder = Slotted(net)
    return lambda x: holder.net(x)[:, :3]


def helped(net):
    def helper(x):
        return net(x)

    return lambda x: helper(x)[:, :3]


def named(net):
    space = SimpleNamespace(loop=Loop(net))
    return lambda x: space.loop.encode(x)[:, :3]


def in_batches(net):
    globals()["NETWORK"] = net  # as in a script; a comprehension is a function of its own before Python 3.12
    return lambda x: torch.cat([NETWORK(some) for some in x.split(50)])


WAYS = {
    "a comprehension": in_batches,
    "a helper of a function": helped,
    "a decorator that is given it": lambda net: given_to(net)(lambda module, x: module(x)),
    "a decorated method": lambda net: torch.no_grad()(net.forward),
    "a method of what is no module": lambda net: Loop(net).encode,
    "an attribute of what is named": named,
    "an object with slots": slotted,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_module_rests_behind_whatever_leads_to_it(way):
    """Its running statistics moved, and dropout stayed on: the look changed the training beside it."""
    net = network()
    before = net[1].running_mean.clone()
    Monitor(TEACHER, IMAGES).step(WAYS[way](net))
    assert torch.equal(net[1].running_mean, before)
    assert all(module.training for module in net.modules())


class Absent:
    """A proxy of what is not there yet: whatever it is asked, it raises."""

    def __getattribute__(self, name):
        raise RuntimeError(f"nothing to ask for {name}")


class Lazy(Mapping):
    """A mapping that reads its values when they are asked for."""

    def __len__(self):
        return 1

    def __iter__(self):
        yield "images"

    def __getitem__(self, name):
        raise OSError(f"{name} were read")


class Guarded(dict):
    def values(self):
        raise OSError("the values were asked for")


@pytest.mark.parametrize("kind", [Absent, Lazy, partial(Guarded, a=1)], ids=["proxy", "lazy mapping", "dict"])
def test_what_cannot_be_asked_is_passed_over(kind):
    """The training ended with its error."""
    net, other = network(), kind()
    before = net[1].running_mean.clone()
    Monitor(TEACHER, IMAGES).step(lambda x: (net(x), other)[0])
    assert torch.equal(net[1].running_mean, before)


@pytest.mark.slow
def test_a_compiled_method_rests_as_well():
    """It is a function of torch's, which closes over the method."""
    net = network()
    before = net[1].running_mean.clone()
    Monitor(TEACHER, IMAGES).step(torch.compile(net.forward, backend="eager"))
    assert torch.equal(net[1].running_mean, before)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("images", [IMAGES, IMAGES.double(), IMAGES.numpy()], ids=["float32", "float64", "array"])
def test_images_come_in_the_type_of_the_weights(kind, images):
    """Lightning's bf16-true and 64-true turn the weights, and torch multiplies no two types."""
    monitor, net = Monitor(TEACHER, images), network().to(kind)
    assert np.isfinite(monitor.step(net).row["affine_margin"])
    assert monitor.images.dtype == images.dtype


def test_a_module_without_weights_does_not_hide_those_behind_it():
    """As an augmentation that a function names beside a loop."""
    net, scaled = Loop(network().double()), nn.Identity()
    assert Monitor(TEACHER, IMAGES).step(lambda x: net.encode(scaled(x))).row["finite"]


def test_a_function_of_ones_own_gets_the_array_that_it_turns_itself():
    net = network()
    assert Monitor(TEACHER, IMAGES.numpy()).step(lambda x: net(torch.from_numpy(x))).row["finite"]


def test_whole_numbers_stay_so():
    """They are words, or numbers of nodes."""
    words = torch.arange(N)[:, None] % K
    assert Monitor(TEACHER, words).step(nn.Sequential(nn.Embedding(K, 3), nn.Flatten())).mean is not None


def mu(x):
    return 3 * x[:, :K]


def q(x):
    return Normal(mu(x), torch.full((len(x), K), np.exp(-2.0)))


OUTPUTS = {
    "normal": q,
    "independent": lambda x: Independent(q(x), 1),
    "diffusers": lambda x: OrderedDict(latent_dist=SimpleNamespace(mean=mu(x), logvar=torch.full((len(x), K), -4.0))),
    "a tuple of one": lambda x: (q(x),),
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_distribution_is_taken_as_mu_and_logvar(output):
    known = Monitor(TEACHER, IMAGES).step(lambda x: (mu(x), torch.full((len(x), K), -4.0))).row
    seen = Monitor(TEACHER, IMAGES).step(OUTPUTS[output]).row
    assert seen == pytest.approx(known, rel=1e-4)


@pytest.mark.parametrize("output", [lambda x: Laplace(mu(x), 1.0), lambda x: {"mu": mu(x), "scale": x}])
def test_what_else_comes_is_refused_and_the_remedy_taken(output):
    with pytest.raises(ConfigFault, match=r"distribution, got (Laplace|dict) .* a function that picks them"):
        Monitor(TEACHER, IMAGES).step(output)
    picked = lambda x: output(x)["mu"] if isinstance(output(x), dict) else output(x).mean  # noqa: E731
    assert Monitor(TEACHER, IMAGES).step(picked).row["finite"]
