"""Laws of a family, as test classes: a new member inherits its tests.

class TestWarmUp(StageLaws):
    stage = stages.warm_up

    def inputs(self, store): return {"dataset": tiny, ..., "seed": 0}
    def others(self, store): return {"dataset": tinier, ..., "seed": 1}

class TestLinearHead(RawHeadLaws):
    model = Model(head=LearnedHead(hidden=()), ...)

class TestBetting(LowerBoundLaws):
    def bound(self, pairs, delta, reference): return evidence(pairs, reference=reference).bound(delta)
"""

import dataclasses
import inspect
import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from certvae.canonical import canonical_json
from certvae.certificate import Pairs, Reference
from certvae.evaluation.diagnostics import HEAD_ROWS, head_logits
from certvae.models.nets import Vae, build
from certvae.protocols.judging import Look, Raw, Reads, Subject
from certvae.spec.parts import Model
from certvae.store.artifact import Artifact, Content
from certvae.store.checkpoints import Checkpoints
from certvae.store.store import Stage, Store, Workbench
from tests.populations import population


class Cut(Exception):
    """Ends a stage in its middle, as a kill would."""


class CuttingCheckpoints(Checkpoints):
    """Real checkpoints of a process that dies right after its next save."""

    def save(self, step: int, content: Content) -> None:
        super().save(step, content)
        raise Cut(step)


class StageLaws:
    """A stage is a pure function of what is in its key, and everything in its key matters."""

    stage: ClassVar[Stage]
    device: ClassVar[str] = "cpu"
    describes: ClassVar[dict[str, str]] = {}
    """{input: the input it says how to read}: such a one cannot change alone, so `others` leaves it out."""

    def inputs(self, store: Store) -> dict[str, Any]:
        """{parameter: value} of a small call; artifacts come from the store that is given."""
        raise NotImplementedError

    def others(self, store: Store) -> dict[str, Any]:
        """{parameter: another value}: each of them alone must lead to another result."""
        raise NotImplementedError

    def test_same_inputs_give_the_same_bytes(self, tmp_path: Path) -> None:
        """Neither the store, nor checkpoints, nor who listens, nor any global generator enters the result."""
        told: list[Any] = []
        _seed_global_generators(0)
        quiet = self._store(tmp_path / "quiet")
        first = quiet.call(self.stage, **self.inputs(quiet))
        _seed_global_generators(1)
        noisy = Store(tmp_path / "noisy", device=self.device, report=told.append, checkpoint_seconds=0.0)
        second = noisy.call(self.stage, **self.inputs(noisy))
        assert (second.key, second.digest) == (first.key, first.digest)
        assert canonical_json(told)

    def test_every_input_alone_changes_key_and_bytes(self, tmp_path: Path) -> None:
        """The seed among them. An input that changes nothing is not read, and would only split the cache."""
        store = self._store(tmp_path)
        inputs, others = self.inputs(store), self.others(store)
        assert others.keys() == inputs.keys() - self.describes.keys()
        assert inputs.keys() >= set(self.describes.values())
        found = [store.call(self.stage, **inputs)]
        found += [store.call(self.stage, **{**inputs, name: other}) for name, other in others.items()]
        assert len({artifact.key for artifact in found}) == len(found)
        assert len({artifact.digest for artifact in found}) == len(found)

    def test_another_version_or_environment_has_another_key(self, tmp_path: Path) -> None:
        store = self._store(tmp_path)
        inputs = self.inputs(store)
        bumped = dataclasses.replace(self.stage, version=self.stage.version + 1)
        moved = Store(tmp_path, device=self.device, fingerprint={"torch": "another"})
        assert len({store.key(self.stage, **inputs), store.key(bumped, **inputs), moved.key(self.stage, **inputs)}) == 3

    def test_the_result_is_finite_arrays_and_plain_facts(self, tmp_path: Path) -> None:
        store = self._store(tmp_path)
        checkpoints = Checkpoints(store.disk, "0" * 64)
        content = self.stage.make(**self.inputs(store), bench=Workbench(self.device, _ignore, checkpoints))
        artifact = store.call(self.stage, **self.inputs(store))
        assert artifact.facts.keys() == content.facts.keys()
        assert artifact.arrays.keys() == content.arrays.keys()
        for name, array in artifact.arrays.items():
            assert np.isfinite(array).all()
            np.testing.assert_array_equal(array, content.arrays[name], strict=True)

    def test_a_run_cut_after_every_checkpoint_ends_with_the_same_bytes(self, tmp_path: Path) -> None:
        store = self._store(tmp_path)
        inputs = self.inputs(store)
        whole = store.call(self.stage, **inputs)
        bench = Workbench(self.device, _ignore, CuttingCheckpoints(store.disk, "0" * 64), 0.0)
        cuts = 0
        while True:
            try:
                content = self.stage.make(**inputs, bench=bench)
                break
            except Cut:
                cuts += 1
        if not cuts:
            pytest.skip("this stage saves no checkpoints")
        assert content.files() == Content(whole.arrays, whole.facts).files()

    def test_an_input_is_never_more_than_the_stage_may_read(self, tmp_path: Path) -> None:
        """No whole cell, no store, no path: arguments are the cache key."""
        for name, value in self.inputs(self._store(tmp_path)).items():
            allowed = isinstance(value, Artifact | str | int | float) or dataclasses.is_dataclass(value)
            assert allowed or hasattr(value, "identity"), name
            assert type(value).__name__ not in {"CellSpec", "Chain", "Store"}, name

    def _store(self, path: Path) -> Store:
        return Store(path, device=self.device)


class JudgementLaws(StageLaws):
    """What holds for whatever judges a network: `StageLaws`, and that no field of what it reads is idle."""

    describes: ClassVar[dict[str, str]] = {"reads": "subject"}
    describes_in_subject: ClassVar[tuple[str, ...]] = ()
    """Fields of the subject that say how to read others, and change nothing by themselves."""
    reads_alone: ClassVar[Reads] = Raw()
    read_otherwise: ClassVar[Reads | None] = None

    def subject(self, store: Store) -> Subject:
        raise NotImplementedError

    def other_subject(self, store: Store) -> dict[str, Any]:
        """Another value for each field of the subject, but those that describe others."""
        raise NotImplementedError

    def inputs(self, store: Store) -> dict[str, Any]:
        return {"subject": self.subject(store), "look": Look("certify", 1, 0), "reads": self.reads_alone}

    def others(self, store: Store) -> dict[str, Any]:
        subject = dataclasses.replace(self.subject(store), trained=self.other_subject(store)["trained"])
        other = {"subject": subject, "look": Look("guard", 1, 0)}
        return other if self.read_otherwise is None else {**other, "reads": self.read_otherwise}

    def test_every_field_of_subject_and_look_changes_key_and_bytes(self, tmp_path: Path) -> None:
        store = self._store(tmp_path)
        subject, look = self.subject(store), Look("certify", 1, 0)
        others = self.other_subject(store)
        assert others.keys() == {field.name for field in dataclasses.fields(Subject)} - {*self.describes_in_subject}
        looks = (("split", "guard"), ("looks", 2), ("seed", 1))
        called = [(subject, look)]
        called += [(dataclasses.replace(subject, **{name: other}), look) for name, other in others.items()]
        called += [(subject, dataclasses.replace(look, **{name: other})) for name, other in looks]
        found = [store.call(self.stage, *given, self.reads_alone) for given in called]
        assert len({artifact.key for artifact in found}) == len(found)
        assert len({artifact.digest for artifact in found}) == len(found)


def _ignore(progress: object) -> None:
    """Nobody listens."""


def _seed_global_generators(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - that the global generator does not matter is what is tested
    torch.manual_seed(seed)


class RawHeadLaws:
    """A certified head is a function of z alone, row by row: then a constant latent gives a constant student."""

    model: ClassVar[Model]
    shape: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    classes: ClassVar[int] = 4

    def network(self) -> Vae:
        """A network whose head is under test."""
        return build(self.model, self.shape, self.classes, seed=0)

    def latent(self, rows: int, seed: int = 0) -> np.ndarray:
        width = self.model.encoder.latent
        return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)

    def test_its_only_argument_is_z(self) -> None:
        assert list(inspect.signature(self.network().head.forward).parameters) == ["z"]

    def test_it_gives_a_logit_per_class(self) -> None:
        assert head_logits(self.network().head, self.latent(7)).shape == (7, self.classes)

    def test_images_and_teacher_rows_do_not_reach_it(self) -> None:
        """Nothing that the encoder saw, or the decoder was told, is remembered between calls."""
        network, generator = self.network(), torch.Generator().manual_seed(0)
        z, found = torch.from_numpy(self.latent(5)), []
        for _ in range(2):
            network.encoder(torch.rand(5, *self.shape, generator=generator))
            network.decoder(z, torch.rand(5, self.classes, generator=generator).softmax(dim=1))
            found.append(network.head(z))
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)

    def test_other_rows_of_the_batch_do_not_reach_it(self) -> None:
        head, z = self.network().head, self.latent(9)
        alone = np.concatenate([head_logits(head, row[None]) for row in z])
        beside_others = head_logits(head, np.concatenate([z, 1e3 * self.latent(64, seed=1)]))[:9]
        backwards = head_logits(head, z[::-1])[::-1]
        np.testing.assert_allclose(beside_others, alone, rtol=0, atol=1e-12)
        np.testing.assert_allclose(backwards, alone, rtol=0, atol=1e-12)

    def test_equal_rows_stay_equal_in_whatever_chunks_they_are_read(self) -> None:
        """To 1e-12 in float64: the certificate's slack rests on it."""
        row = self.latent(1)
        logits = head_logits(self.network().head, row.repeat(2 * HEAD_ROWS + 3, axis=0))
        assert np.ptp(logits, axis=0).max() <= 1e-12

    def test_training_and_evaluation_are_the_same_function(self) -> None:
        """No dropout, no running statistics."""
        head, z = self.network().head, torch.from_numpy(self.latent(5))
        torch.testing.assert_close(head.train()(z), head.eval()(z), rtol=0, atol=0)

    def test_no_batch_norm_in_it_or_before_it(self) -> None:
        """It mixes rows, and blows vanishing variation of the latent up to unit size."""
        network = self.network()
        for part in (network.encoder, network.head):
            assert not [module for module in part.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]


class LowerBoundLaws:
    """A lower confidence bound of the population margin errs no more often than it says, whatever the rows are."""

    kinds: ClassVar[tuple[str, ...]] = ("hard", "soft", "rare", "smoothed", "blind")
    quick: ClassVar[tuple[tuple[int, int], ...]] = ((50, 2), (360, 10))
    thorough: ClassVar[tuple[tuple[int, int], ...]] = ((50, 100), (360, 50), (2000, 10), (2000, 100), (10_000, 200))

    def bound(self, pairs: Pairs, delta: float, reference: Reference | None) -> float:
        """Lower bound of the margin of these rows' population, in nats; the student is mixed with 1 % uniform."""
        raise NotImplementedError

    def test_it_covers(self) -> None:
        for kind in self.kinds:
            for n, classes in self.quick:
                self._covers(kind, n, classes, repeats=40)

    @pytest.mark.slow
    def test_it_covers_large_and_small_samples_of_many_and_few_classes(self) -> None:
        for kind in self.kinds:
            for n, classes in (*self.quick, *self.thorough):
                self._covers(kind, n, classes, repeats=60)

    def _covers(self, kind: str, n: int, classes: int, repeats: int) -> None:
        """With the uniform row and with train rows as the reference, at one error in five, where errors would show."""
        truth, generator = population(kind, classes), np.random.default_rng([n, classes])
        references = None, truth.reference(4 * n, generator)
        wrong = 0
        for repeat in range(repeats):
            pairs = truth.pairs(truth.kinds(n, generator))
            wrong += self.bound(pairs, 0.2, references[repeat % 2]) > truth.margin() + 1e-9
        assert wrong <= binom.ppf(0.999, repeats, 0.2), (kind, n, classes, wrong)

    def test_more_confidence_and_more_looks_cost_margin(self) -> None:
        for kind in self.kinds:
            truth, generator = population(kind, 10), np.random.default_rng(0)
            pairs = truth.pairs(truth.kinds(200, generator))
            found = [self.bound(pairs, delta, None) for delta in (0.4, 0.2, 0.05, 0.05 / 3, 0.001, 1e-9)]
            assert found == sorted(found, reverse=True)

    def test_the_names_of_the_classes_do_not_matter(self) -> None:
        truth, generator = population(self.kinds[0], 10), np.random.default_rng(0)
        pairs, order = truth.pairs(truth.kinds(100, generator)), generator.permutation(10)
        renamed = Pairs(teacher=pairs.teacher[:, order], log_student=pairs.log_student[:, order], split="certify")
        assert self.bound(renamed, 0.05, None) == pytest.approx(self.bound(pairs, 0.05, None), abs=1e-9)
