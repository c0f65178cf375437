"""Which stored rows a run may use: made by this code, and on this machine or on a device of the cluster it runs on."""

import pytest

from certvae import environment, stages
from certvae.canonical import digest
from sweeps import tiny_fixed_q
from sweeps.command import parse
from sweeps.flow import made_here, slots_of


@pytest.fixture(scope="module", autouse=True)
def settled():
    environment.settle()


def row(**changed):
    made_in = environment.fingerprint("cpu") | changed
    versions = {f"stage_version_{stage.name}": stage.version for stage in (stages.warm_up, stages.judge)}
    return {**versions, "environment": digest(made_in), "device": made_in["device"]}


def test_a_row_of_this_code_and_machine_is_used():
    assert made_here()(row())


def test_a_row_of_another_stage_version_is_not():
    assert not made_here()(row() | {"stage_version_judge": stages.judge.version + 1})


@pytest.mark.parametrize("changed", [{"device": "another GPU"}, {"python": "2.7"}, {"threads": 64}])
def test_a_row_of_another_machine_is_not(changed):
    assert not made_here()(row(**changed))


def test_on_a_cluster_a_row_of_any_device_is_used():
    """The driver often runs on a head without a GPU."""
    assert made_here(on_cluster=True)(row(device="another GPU"))
    assert made_here(on_cluster=True)(row())


def test_on_a_cluster_other_packages_still_count():
    packages = {**environment.fingerprint("cpu")["packages"], "torch": "0.1"}
    assert not made_here(on_cluster=True)(row(device="another GPU", packages=packages))


def test_a_row_that_does_not_say_its_device_was_made_here_or_nowhere():
    old = {name: value for name, value in row().items() if name != "device"}
    assert made_here(on_cluster=True)(old)
    assert made_here()(old)


def test_slots_of_a_cluster_are_not_those_of_this_machine():
    def slots(*arguments):
        return slots_of(parse(tiny_fixed_q.STUDY, ["--data", "digits", *arguments])[0])

    assert slots().on == "one CPU core each"
    assert slots("--workers", "64", "--address", "head:6390").count == 64
    assert "of the cluster at head:6390" in slots("--address", "head:6390").on
