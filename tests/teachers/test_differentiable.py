"""The teacher that gradients pass through says what the cached one says, for every kind of covariance."""

import dataclasses
from typing import get_args

import pytest
import torch

from certvae.protocols import stages
from certvae.protocols.trained import network
from certvae.spec.parts import Covariance
from certvae.store.checkpoints import Checkpoints
from certvae.store.store import Store, Workbench
from certvae.teachers.differentiable import ReadingTeacher
from certvae.teachers.kinds import FeatureTeacher
from tests.small_cells import CLASSES, MODEL, TEACHER, WARM_UP, small_digits


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("teachers") / "store")


@pytest.mark.parametrize("whitening", [0, 4])
@pytest.mark.parametrize("covariance", get_args(Covariance))
def test_it_reads_train_images_as_they_were_cached(store, covariance, whitening):
    dataset = small_digits(store.path / "data")
    warm = store.call(stages.warm_up, dataset, MODEL, CLASSES, WARM_UP, 0)
    spec = dataclasses.replace(TEACHER, covariance=(covariance,), whitening=(whitening,), temperature=(2.0,))
    taught = store.call(stages.teacher, dataset, MODEL, spec, 0, warm)
    vae = network(dataset, MODEL, CLASSES, warm, Workbench("cpu", [].append, Checkpoints(store.disk, "0" * 64)))
    read = ReadingTeacher(vae.encoder, FeatureTeacher.of(taught, "cpu"))
    rows = dataset.rows("train")
    x = torch.from_numpy(dataset.images[rows]).float() * dataset.scale
    torch.testing.assert_close(read(x).exp(), torch.from_numpy(taught.arrays["targets_train"]), rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_image_and_no_weight(store):
    dataset = small_digits(store.path / "data")
    warm = store.call(stages.warm_up, dataset, MODEL, CLASSES, WARM_UP, 0)
    taught = store.call(stages.teacher, dataset, MODEL, TEACHER, 0, warm)
    vae = network(dataset, MODEL, CLASSES, warm, Workbench("cpu", [].append, Checkpoints(store.disk, "0" * 64)))
    read = ReadingTeacher(vae.encoder, FeatureTeacher.of(taught, "cpu"))
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    read(x)[:, 0].sum().backward()
    assert x.grad is not None
    assert bool(x.grad.abs().max() > 0)
    assert all(parameter.grad is None for parameter in read.parameters())
