"""Optimisers that leave torch's compiler alone compute what torch's own do, to the byte."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from certvae.training.optimisers import Adam, Lbfgs

ALONE = """
import sys
import torch
from certvae.training.optimisers import Adam, Lbfgs
weight = torch.nn.Parameter(torch.ones(3))
for optimiser in (Adam([weight], fused=True), Adam([weight]), Lbfgs([weight], line_search_fn="strong_wolfe")):
    def closure():
        optimiser.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss
    optimiser.step(closure)
    optimiser.load_state_dict(optimiser.state_dict())
print([name for name in sys.modules if name.startswith("torch._dynamo")])
"""


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.SiLU(), nn.Linear(5, 1), nn.LayerNorm(1))


def trained(optimiser: torch.optim.Optimizer, vae: nn.Module, steps: int) -> None:
    x = torch.linspace(-1, 1, 70).reshape(10, 7)

    def closure() -> torch.Tensor:
        optimiser.zero_grad(set_to_none=True)
        loss = vae[:3](x).square().mean() + vae[2].weight.abs().sum()
        loss.backward()
        return loss

    for _ in range(steps):
        optimiser.step(closure)


@pytest.mark.parametrize(
    ("ours", "torchs", "options"),
    [
        (Adam, torch.optim.Adam, {"lr": 1e-2, "fused": True}),
        (Adam, torch.optim.Adam, {"lr": 1e-2}),
        (Lbfgs, torch.optim.LBFGS, {"max_iter": 5, "history_size": 4, "line_search_fn": "strong_wolfe"}),
    ],
)
def test_the_bytes_of_weights_and_state_are_those_of_torch(ours, torchs, options):
    """A parameter without a gradient among them; halfway each goes on from the state that the other has saved."""
    one, other = network(), network()
    mine, its = ours(one.parameters(), **options), torchs(other.parameters(), **options)
    trained(mine, one, 5)
    trained(its, other, 5)
    saved, its_saved = copy.deepcopy(mine.state_dict()), copy.deepcopy(its.state_dict())
    mine.load_state_dict(its_saved)
    its.load_state_dict(saved)
    trained(mine, one, 5)
    trained(its, other, 5)
    assert all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert str(mine.state_dict()) == str(its.state_dict())


def test_a_process_that_only_trains_does_not_load_the_compiler():
    told = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True, timeout=300)
    assert told.stdout.strip() == "[]"
