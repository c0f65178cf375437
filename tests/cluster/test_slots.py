"""Slots: shares of the GPUs that this process may use, or CPU cores, and never more than there are."""

import pytest

from certvae.cluster.slots import local_slots
from certvae.errors import ConfigFault
from certvae.machine import cores


def test_without_a_gpu_a_slot_is_a_core():
    slots = local_slots(None, 1, 0)
    assert (slots.count, slots.gpus) == (cores(), 0)


def test_eight_logical_gpus_are_eight_slots():
    slots = local_slots(None, 1, 8)
    assert (slots.count, slots.gpus) == (8, 1.0)
    assert slots.resources(alone=False)["GPU"] == 1.0


def test_a_slot_may_be_a_share_of_a_gpu_and_a_cell_alone_gets_a_whole_one():
    slots = local_slots(None, 4, 8)
    assert (slots.count, slots.gpus) == (32, 0.25)
    assert slots.resources(alone=True)["GPU"] == 1.0


def test_a_cell_alone_on_a_cpu_gets_all_slots():
    slots = local_slots(1, 1, 0)
    assert slots.resources(alone=True)["CPU"] == slots.cpus * slots.count


def test_fewer_workers_than_slots_may_be_asked_for():
    assert local_slots(3, 1, 8).count == 3


@pytest.mark.parametrize(("workers", "gpus", "said"), [(9, 8, "9 slots asked for, 8"), (10**4, 0, "CPU cores")])
def test_more_slots_than_there_are_is_refused(workers, gpus, said):
    with pytest.raises(ConfigFault, match=said) as told:
        local_slots(workers, 1, gpus)
    assert ("--per-gpu" in str(told.value)) == bool(gpus)  # a machine without one has no share to raise
