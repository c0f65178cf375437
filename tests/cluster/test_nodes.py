"""What is compared between nodes, and how the odd one is named."""

import dataclasses
import os
import re
import socket
import time
from pathlib import Path

import pytest
import ray

from certvae.cluster import nodes, watch
from certvae.cluster.nodes import Facts, check, differences, look, probe_file
from certvae.errors import RayFault
from certvae.store.program import program_digest
from certvae.store.store import Store

HERE = Facts("head", "3.11.7", {"ray": "2.60.0", "torch": "2.13.0"}, "aaaa")


def like(host, **other):
    return dataclasses.replace(HERE, host=host, **other)


@pytest.fixture
def store(tmp_path):
    return str(Store(tmp_path / "store", fingerprint={}).path)


def test_equal_nodes_pass():
    check(HERE, [HERE, like("one"), like("two")])


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"python": "3.11.8"}, "Python 3.11.8, not 3.11.7"),
        ({"packages": {"ray": "2.60.0", "torch": "2.12.0"}}, "torch 2.12.0, not 2.13.0"),
        ({"packages": {"torch": "2.13.0"}}, "ray None, not 2.60.0"),
        ({"program": "bbbb"}, "other source code (bbbb, not aaaa)"),
        (
            {"kernels": {"MKL_CBWR": "COMPATIBLE"}},
            "kernels by MKL_CBWR=COMPATIBLE, not by default: set such variables alike on every host",
        ),
        ({"store": "it is not there"}, "the store cannot be used: it is not there"),
    ],
)
def test_the_odd_host_is_named_with_what_differs(odd, said):
    with pytest.raises(RayFault, match=re.escape(f"1 of 3 nodes differ from the driver on head: two: {said}")):
        check(HERE, [HERE, like("one"), like("two", **odd)])


def test_every_difference_of_a_host_is_told():
    assert len(list(differences(HERE, like("two", python="3.12.0", program="bbbb", store="gone")))) == 3


def test_what_is_compared_is_what_enters_a_key_and_ray():
    from certvae.fingerprint import PACKAGES  # noqa: PLC0415

    assert set(nodes.PACKAGES) == {"ray", *PACKAGES}


def test_a_host_sees_the_store_that_the_driver_sees(store):
    with probe_file(store) as probe:
        facts = look(probe)
    assert facts.store == ""
    check(facts, [facts])
    assert list(Path(store, "tmp").iterdir()) == []


def test_a_host_with_a_store_of_its_own_is_found(store, tmp_path):
    """The same path on a host whose folder is not mounted: a store, but not this one."""
    with probe_file(store) as probe:
        other = Store(tmp_path / "other", fingerprint={}).path
        facts = look(str(other / "tmp" / Path(probe).name))
    assert nodes.SEPARATE in facts.store


def test_a_host_without_the_folder_is_found(tmp_path):
    assert look(str(tmp_path / "nowhere" / "tmp" / "probe")).store == "it is not there"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_host_that_may_not_write_is_found(store):
    with probe_file(store) as probe:
        Path(store, "tmp").chmod(0o500)
        facts = look(probe)
        Path(store, "tmp").chmod(0o700)
    assert "Permission denied" in facts.store


def test_to_ask_nobody_starts_no_ray(store):
    """It did, and a minute after that had ended it took the process along."""
    with probe_file(store) as probe:
        assert nodes.ask([], probe) == []
    assert not ray.is_initialized()


def test_a_probe_stays_young_while_its_run_is_watched(store, monkeypatch):
    monkeypatch.setattr(watch, "SECONDS", 0.01)
    monkeypatch.setattr(watch, "alive", list)
    with probe_file(store) as probe, socket.create_server(("127.0.0.1", 0)) as head:
        os.utime(probe, (0, 0))
        with watch.Watch(f"127.0.0.1:{head.getsockname()[1]}", HERE, probe, pytest.fail):
            until = time.monotonic() + 60
            while Path(probe).stat().st_mtime == 0 and time.monotonic() < until:
                time.sleep(0.01)
        assert Path(probe).stat().st_mtime > 0


def test_no_look_asks_ray_once_a_watch_is_over(store, monkeypatch):
    """One was in Ray when that ended, and took the driver along with code 1, its table not printed."""
    asking, asked = [0], [0]

    def alive() -> list:
        asking[0] += 1
        time.sleep(0.05)
        asking[0] -= 1
        asked[0] += 1
        return []

    monkeypatch.setattr(watch, "SECONDS", 0.001)
    monkeypatch.setattr(watch, "alive", alive)
    with probe_file(store) as probe, socket.create_server(("127.0.0.1", 0)) as head:
        with watch.Watch(f"127.0.0.1:{head.getsockname()[1]}", HERE, probe, pytest.fail):
            until = time.monotonic() + 60
            while not (asking[0] and asked[0] > 1) and time.monotonic() < until:
                time.sleep(0.001)
        assert asking == [0]
        ended = asked[0]
        time.sleep(0.2)
        assert (asking, asked) == ([0], [ended])


def test_a_node_says_the_program_that_its_rows_will_say(store):
    with probe_file(store) as probe:
        assert program_digest().startswith(look(probe).program)
