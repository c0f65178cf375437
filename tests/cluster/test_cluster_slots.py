"""How many cells a cluster runs at once."""

import pytest

from certvae.cluster.slots import cluster_slots
from certvae.errors import RayFault

HEAD = {"CPU": 8.0, "node:__internal_head__": 1.0}
EIGHT = {"CPU": 96.0, "GPU": 8.0}


def test_one_slot_per_gpu_and_none_on_a_head_without():
    slots = cluster_slots([HEAD, EIGHT, EIGHT], per_gpu=1)
    assert (slots.count, slots.cpus, slots.gpus) == (16, 12.0, 1.0)


def test_shares_of_a_gpu():
    slots = cluster_slots([EIGHT], per_gpu=4)
    assert (slots.count, slots.cpus, slots.gpus) == (32, 3.0, 0.25)


def test_the_node_with_the_fewest_cores_per_gpu_decides_how_many_a_cell_gets():
    slots = cluster_slots([EIGHT, {"CPU": 10.0, "GPU": 3.0}], per_gpu=1)
    assert slots.cpus == 3.333
    assert slots.cpus * 3 <= 10


def test_cores_where_there_is_no_gpu():
    slots = cluster_slots([{"CPU": 4.0}, {"CPU": 2.0}], per_gpu=1)
    assert (slots.count, slots.cpus, slots.gpus) == (6, 1.0, 0.0)


def test_at_most_as_many_as_asked_for():
    assert cluster_slots([EIGHT], per_gpu=1, most=3).count == 3
    assert cluster_slots([EIGHT], per_gpu=1, most=99).count == 8


def test_no_slot_at_all_is_refused():
    with pytest.raises(RayFault, match="no slot"):
        cluster_slots([{"memory": 1.0}], per_gpu=1)
