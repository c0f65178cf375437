"""PyTorch's optimisers without the import of its compiler.

Torch guards the methods of an optimiser against its compiler, and a guard imports the compiler in order to switch it
off: 1.4 s of processor in every worker. These classes have the methods that the guards wrap: the bytes are the same.
"""

from inspect import unwrap

import torch
from torch.optim import Optimizer


class _Eager(Optimizer):
    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)


class Adam(_Eager, torch.optim.Adam):
    """As `torch.optim.Adam`; without `differentiable`, which needs the guard of `step`."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class Lbfgs(_Eager, torch.optim.LBFGS):
    """As `torch.optim.LBFGS`."""
