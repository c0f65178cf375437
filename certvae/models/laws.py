"""Checks the laws that a network must obey before a cell is trained with it, as far as they are cheap to check.

    x  (4, C, H, W)  uniform noise      z = mu + exp(logvar / 2) e      T  (4, K)  random rows on the simplex

They are read on a copy whose weights are moved at random: a gate that starts at zero would hide what lies behind it.
"""

import copy
from collections.abc import Callable

import torch
from safetensors.numpy import load, save
from torch import Tensor

from certvae.errors import ConfigFault
from certvae.models.nets import Shape, Vae, build, load_weights, weights
from certvae.models.own import check_decode, named
from certvae.spec.parts import Model

ROWS = 4
MOVED = 0.02  # deviation of what is added to every weight of the copy
FAR = 1.0  # the same where nothing of what a network starts as shall be left
ROUNDING = 1e-3  # of the largest value: float32 sums in another order differ by less, a row that has a say by more
SHOWN = 3
STEPS = 3
Made = Callable[[int], Vae]
"""The network of a seed."""


def check_network(model: Model, shape: Shape, classes: int) -> None:
    """Refuses a network of somebody's own that breaks a law; one of ours is held to them by tests.

    Raises:
        ConfigFault: which law, and how.
    """
    if model.network is None:
        return

    def made(seed: int) -> Vae:
        return build(model, shape, classes, seed)

    vae = made(0)
    check_decode(vae.encoder.get_submodule("network"), sees_teacher=model.decoder_sees_teacher)
    check_shapes(vae)
    check_logits(vae)
    check_same_bytes(made)
    check_no_draws(vae)
    check_stored(made)
    check_rows_apart(vae)
    check_gradients(vae)


def check_shapes(vae: Vae) -> None:
    """mu and logvar (n, d), logits (n, C, H, W), of one row and of several: the network refuses all else by itself."""
    for rows in (1, ROWS):
        _tried(vae.eval(), rows)


def check_logits(vae: Vae) -> None:
    """The decoder ends before its sigmoid: with a second one behind it no pixel would be darker than a half.

    Logits may start in [0, 1], and leave it with weights that are moved far; what a sigmoid gives never does. NaN is
    outside.
    """
    _, z, teacher = _tried(vae)[0]
    decoded = [_moved(vae, by).decoder(z, teacher) for by in (MOVED, FAR)]
    if all(bool(((one >= 0) & (one <= 1)).all()) for one in decoded):
        told = "decode gives values in [0, 1] alone, and logits of pixels are wanted"
        raise _broken(vae, told, "leave its last sigmoid out: the likelihood has its own")


def check_same_bytes(made: Made) -> None:
    """The same seed gives the same weights."""
    one, other = weights(made(0)), weights(vae := made(0))
    changed = [name for name, array in one.items() if name not in other or array.tobytes() != other[name].tobytes()]
    if changed or one.keys() != other.keys():
        told = f"two networks of one seed differ in {_listed(changed) or 'the names of their weights'}"
        raise _broken(vae, told, "draw weights from torch's global generator, which is seeded, and from no other")


def check_no_draws(vae: Vae) -> None:
    """In training, the same rows give the same numbers twice: a run that resumes must end with the same bytes."""
    vae = _moved(vae)
    if differs := _differing(_tried(vae)[1], _tried(vae)[1]):
        told = f"{differs} of the same rows differs from one call to the next"
        raise _broken(vae, told, "leave out dropout and everything else that draws: noise comes with z")


def check_rows_apart(vae: Vae) -> None:
    """No row has a say in another: by gradients, which are exactly zero, and by rows that are read alone."""
    for is_training in (True, False):
        moved = _moved(vae).train(is_training)
        given, found = _tried(moved)
        for name, output in found.items():
            pulls = torch.autograd.grad(output[0].sum(), given, retain_graph=True, allow_unused=True)
            if any(pull is not None and bool(pull[1:].any()) for pull in pulls):
                raise _mixed(moved, name, "a gradient leads from row 0 to others")
        alone = [_tried(moved, only=row)[1] for row in range(ROWS)]
        for name, output in found.items():
            apart = float(
                ((output - torch.cat([one[name] for one in alone])).abs().max() / output.abs().max()).detach()
            )
            if apart > ROUNDING:
                raise _mixed(moved, name, f"a row alone and beside others differs by {apart:.2g} of the largest value")


def check_gradients(vae: Vae) -> None:
    """Every parameter that can be trained is."""
    vae = _moved(vae)
    _squares(vae).backward()
    trained = [
        (name, one) for name, one in vae.named_parameters() if one.requires_grad and not name.startswith("head.")
    ]
    idle = [name for name, one in trained if one.grad is None or not bool(one.grad.any())]
    if idle:
        remedy = "use them in encode or decode, remove them, or say requires_grad_(False)"
        raise _broken(vae, f"no gradient reaches {_listed(idle)}", remedy)


def check_training(made: Made) -> None:
    """Training from the same start ends with the same bytes."""
    one, other = (_trained(made(0)) for _ in range(2))
    if changed := [name for name in one if one[name] != other[name]]:
        raise _broken(made(0), f"two trainings from one start differ in {_listed(changed)}", "leave out what draws")


def check_stored(made: Made) -> None:
    """What is stored of a network, and loaded into one of another seed, is the network."""
    one, other = made(0), made(1)
    load_weights(other, load(save(weights(one))))
    if differs := _differing(_tried(one)[1], _tried(other)[1]):
        told = f"{differs} is another after the network was stored and loaded"
        raise _broken(one, told, "hold all that it learns in parameters and persistent buffers")


def _tried(vae: Vae, rows: int = ROWS, only: int | None = None) -> tuple[list[Tensor], dict[str, Tensor]]:
    """What one pass reads, x, z and T, which gradients may be taken of, and what it gives; of one of the rows alone."""
    noise = torch.Generator().manual_seed(0)
    kept = slice(None) if only is None else slice(only, only + 1)
    x = torch.rand(rows, *vae.decoder.shape, generator=noise)[kept].requires_grad_()
    e = torch.randn(rows, vae.encoder.latent, generator=noise)[kept]
    teacher = torch.rand(rows, vae.decoder.classes, generator=noise).softmax(dim=1)[kept].requires_grad_()
    mu, logvar = vae.encoder(x)
    z = mu + (0.5 * logvar).exp() * e
    return [x, z, teacher], {"mu": mu, "logvar": logvar, "decode": vae.decoder(z, teacher)}


def _trained(vae: Vae) -> dict[str, bytes]:
    """Weights after a few steps of Adam."""
    optimiser = torch.optim.Adam(vae.train().parameters(), lr=1e-3)
    for _ in range(STEPS):
        optimiser.zero_grad()
        _squares(vae).backward()
        optimiser.step()
    return {name: array.tobytes() for name, array in weights(vae).items()}


def _squares(vae: Vae) -> Tensor:
    """A loss that reads all that a network gives."""
    mu, logvar, decoded = _tried(vae)[1].values()
    return mu.square().mean() + logvar.square().mean() + decoded.square().mean()


def _differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> str:
    """Names of the outputs that are not the same to the last bit."""
    return " and ".join(name for name in one if not torch.equal(one[name], other[name]))


def _moved(vae: Vae, by: float = MOVED) -> Vae:
    """A copy with other weights, in training."""
    noise, moved = torch.Generator().manual_seed(1), copy.deepcopy(vae)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=noise).to(parameter), alpha=by)
    return moved.train()


def _listed(names: list[str]) -> str:
    shown = ", ".join(name.removeprefix("encoder.network.") for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _mixed(vae: Vae, name: str, how: str) -> ConfigFault:
    remedy = "take BatchNorm and whatever else looks across the batch out: GroupNorm and LayerNorm read one row"
    return _broken(vae, f"rows of a batch influence each other in {name}: {how}", remedy)


def _broken(vae: Vae, what: str, remedy: str) -> ConfigFault:
    return ConfigFault(what, remedy, where=named(getattr(vae.encoder, "network", vae.encoder)))
