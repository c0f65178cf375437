"""The study of the triad: two decoders, and a bypass in the one that sees the teacher row alone."""

import dataclasses

import pytest

from certvae.data.loading import load
from certvae.protocols import chain
from certvae.store.store import Store
from sweeps.triad import configs, preset


def test_two_decoders_each_with_edges_read_and_minimised():
    found = configs(preset("digits"))
    assert [spec.model.decoder_sees_teacher for spec in found] == [True, False]
    for spec in found:
        assert {"triad_full", "triad_no_align"} <= set(chain.modes(spec))
        assert chain.shared(spec)["triad_no_align"] == chain.shared(spec)["no_align"]


@pytest.mark.slow
def test_a_decoder_that_sees_the_teacher_bypasses_a_dead_channel(tmp_path):
    base = preset("digits")
    dataset, store = load(base.data, cache=tmp_path / "cache", progress=False), Store(tmp_path / "store")
    found = {}
    for spec in configs(dataclasses.replace(base, training=dataclasses.replace(base.training, epochs=20))):
        made = chain.train(spec, dataset, store, only=("triad_no_align",))
        (found[spec.model.decoder_sees_teacher],) = chain.judge(made, dataset, store, "guard")
    assert {sees: row["bypass"] for sees, row in found.items()} == {True: True, False: False}
    assert {row["active_units"] for row in found.values()} == {0}
