"""The laws themselves: small stages obey them, and stages that break one are caught."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certvae.store.artifact import Content
from certvae.store.selftest import draw, summarise, walk
from certvae.store.store import Store, Workbench, stage
from tests.laws import StageLaws


class TestDraw(StageLaws):
    stage = draw

    def inputs(self, store: Store) -> dict[str, Any]:
        return {"seed": 0}

    def others(self, store: Store) -> dict[str, Any]:
        return {"seed": 1}


class TestWalk(StageLaws):
    stage = walk

    def inputs(self, store: Store) -> dict[str, Any]:
        return {"drawn": store.call(draw, 0), "steps": 5, "seed": 0}

    def others(self, store: Store) -> dict[str, Any]:
        return {"drawn": store.call(draw, 1), "steps": 4, "seed": 1}


class TestSummarise(StageLaws):
    stage = summarise

    def inputs(self, store: Store) -> dict[str, Any]:
        drawn = store.call(draw, 0)
        return {"drawn": drawn, "walked": store.call(walk, drawn, 2, 0)}

    def others(self, store: Store) -> dict[str, Any]:
        other = store.call(draw, 1)
        return {"drawn": other, "walked": store.call(walk, other, 2, 0)}


@stage(version=1)
def global_numbers(seed: int, *, bench: Workbench) -> Content:
    return Content({"x": np.random.standard_normal(3) + seed}, {})  # noqa: NPY002 - what the law must notice


@stage(version=1)
def deaf(seed: int, *, bench: Workbench) -> Content:
    return Content({"x": np.zeros(3)}, {})


@stage(version=1)
def forgetful(seed: int, *, bench: Workbench) -> Content:
    """Its checkpoint lacks what it did before."""
    latest = bench.checkpoints.latest()
    if latest is None:
        bench.checkpoints.save(1, Content({}, {}))
    return Content({"x": np.full(3, float(latest is None))}, {})


class Broken(StageLaws):
    def inputs(self, store: Store) -> dict[str, Any]:
        return {"seed": 0}

    def others(self, store: Store) -> dict[str, Any]:
        return {"seed": 1}


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (global_numbers, Broken.test_same_inputs_give_the_same_bytes),
        (deaf, Broken.test_every_input_alone_changes_key_and_bytes),
        (forgetful, Broken.test_a_run_cut_after_every_checkpoint_ends_with_the_same_bytes),
    ],
)
def test_the_laws_notice(tmp_path: Path, broken: Any, law: Callable[[Broken, Path], None]) -> None:
    laws = Broken()
    laws.stage = broken  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AssertionError):
        law(laws, tmp_path)
