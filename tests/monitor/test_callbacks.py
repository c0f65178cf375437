"""Callbacks, on stand-ins for the two libraries: what these hand over, and in which of several processes."""

import pickle
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from certvae import Monitor
from certvae.errors import ConfigFault

N, K = 100, 4
TEACHER = np.eye(K)[np.arange(N) % K]
IMAGES = torch.tensor(np.eye(K, 12)[np.arange(N) % K], dtype=torch.float32)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(12, 3)


class Coder(Net):
    def encode(self, images):
        return self.encoder(images)


class DDPStrategy:
    """By its name, as Lightning has it."""


class FSDPStrategy:
    """Another."""


@pytest.fixture(autouse=True)
def libraries(monkeypatch):
    for name, base in (("lightning", None), ("lightning.pytorch", "Callback"), ("transformers", "TrainerCallback")):
        library = ModuleType(name)
        if base:
            setattr(library, base, type(base, (), {}))
        monkeypatch.setitem(sys.modules, name, library)


def lightning_step(callback, module, *, first=True, strategy=DDPStrategy):
    callback.on_train_batch_end(SimpleNamespace(is_global_zero=first, strategy=strategy()), module, {}, None, 0)


def transformers_step(callback, module, *, first=True, fsdp=()):
    arguments = SimpleNamespace(fsdp=list(fsdp), deepspeed=None)
    callback.on_step_end(arguments, SimpleNamespace(is_world_process_zero=first), None, model=module, lr=0.1)


STEPS = {"lightning": lightning_step, "transformers": transformers_step}


@pytest.mark.parametrize("library", STEPS)
def test_a_network_without_encode_is_told_what_to_give(library):
    """An AttributeError of torch ended the training; hardly a model of transformers has such a method."""
    monitor, step = Monitor(TEACHER, IMAGES), STEPS[library]
    with pytest.raises(ConfigFault, match=r"Net has no method encode .*lambda module, images: module.encoder"):
        step(getattr(monitor, library)(), Net())
    step(getattr(monitor, library)(lambda module, images: module.encoder(images)), Net())
    assert len(monitor.observations) == 1


@pytest.mark.parametrize(
    ("library", "sharded"), [("lightning", {"strategy": FSDPStrategy}), ("transformers", {"fsdp": ["full_shard"]})]
)
def test_of_processes_that_hold_copies_the_first_looks_alone(library, sharded):
    """All did, each when it was due: every number was logged twice, and the others waited for each."""
    monitor, step = Monitor(TEACHER, IMAGES, every=1), STEPS[library]
    callback = getattr(monitor, library)(lambda module, images: module.encoder(images))
    step(callback, Net(), first=False)
    assert not monitor.observations
    step(callback, Net())
    step(callback, Net(), first=False, **sharded)
    assert len(monitor.observations) == 2


@pytest.mark.parametrize("by", ["launcher", "mesh"])
def test_shards_that_the_arguments_of_a_trainer_do_not_tell_are_noticed(by, monkeypatch):
    """Under `accelerate launch --use_fsdp` the first process looked alone, and waited for the weights of the others."""
    monitor, net = Monitor(TEACHER, IMAGES, every=1), Coder()
    if by == "launcher":
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    else:
        net.encoder.weight.device_mesh = "a DTensor has one"
    transformers_step(monitor.transformers(), net, first=False)
    assert len(monitor.observations) == 1


def test_a_checkpoint_of_lightning_holds_a_state_for_each_monitor():
    checkpoint, steps = {}, (2, 3)
    for callback, number in [(Monitor(TEACHER, IMAGES, every=1).lightning(), number) for number in steps]:
        for _ in range(number):
            lightning_step(callback, Coder())
        callback.on_save_checkpoint(None, None, checkpoint)
    resumed = [Monitor(TEACHER, IMAGES, every=1) for _ in (*steps, 0)]  # and one that was not there before
    for monitor in resumed:
        monitor.lightning().on_load_checkpoint(None, None, checkpoint)
    assert [len(monitor.observations) for monitor in resumed] == [2, 3, 0]


def test_a_trainer_of_transformers_that_resumes_goes_on_counting():
    monitor = Monitor(TEACHER, IMAGES, every=10)
    callback = monitor.transformers()
    callback.on_train_begin(None, SimpleNamespace(global_step=20), None, model=Coder())
    transformers_step(callback, Coder())
    assert [one.step for one in monitor.observations] == [21]


@pytest.mark.parametrize("library", STEPS)
def test_a_callback_can_be_pickled(library):
    """Lightning does so where it spawns processes."""
    callback = pickle.loads(pickle.dumps(getattr(Monitor(TEACHER, IMAGES, log=print), library)()))  # noqa: S301 - ours
    assert "Watched" in type(callback).__name__
