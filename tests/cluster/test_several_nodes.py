"""A pool of several nodes: one joins, one is lost, the head is lost. Real Ray, several raylets, a driver of its own."""

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ray_clusters import NODE, cluster

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def driver(folder, made, cells):
    """A run that has begun; `finish` waits for its end."""
    command = [sys.executable, "-m", "tests.pool_driver", str(folder), made.address, str(cells)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=(folder / "err").open("w"), text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def finish(process, seconds=90):
    """Exit code, and how each cell ended."""
    out, _ = process.communicate(timeout=seconds)
    return process.returncode, json.loads(out.splitlines()[-1]) if process.returncode == 0 else {}


def lines(folder):
    path = folder / "lines"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def until(holds, folder, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{lines(folder)}\n{(folder / 'err').read_text()[-3000:]}"
        time.sleep(0.1)


def until_lines(folder, count):
    until(lambda: len(lines(folder)) >= count, folder)


def all_ok(cells):
    return 0, {str(seed): "ok" for seed in range(cells)}


@pytest.mark.slow
def test_a_node_that_joins_is_used(tmp_path):
    """Four cells that wait for one another need four slots: two come with the second node."""
    with cluster() as made, driver(tmp_path, made, 4) as process:
        until_lines(tmp_path, 2)
        made.add_node(**NODE)
        until_lines(tmp_path, 4)
        (tmp_path / "go").touch()
        assert finish(process) == all_ok(4)
    assert len({node for _, node, _ in lines(tmp_path)}) == 2
    assert "joined: its slots are used" in (tmp_path / "err").read_text()


@pytest.mark.slow
def test_cells_of_a_lost_node_start_again_elsewhere_and_it_is_said(tmp_path):
    with cluster(2) as made, driver(tmp_path, made, 4) as process:
        until_lines(tmp_path, 4)
        made.remove_node(next(iter(made.worker_nodes)), allow_graceful=False)
        until(lambda: "lost: its cells start again" in (tmp_path / "err").read_text(), tmp_path)
        (tmp_path / "go").touch()
        assert finish(process) == all_ok(4)
    seeds = [seed for seed, _, _ in lines(tmp_path)]
    assert (sorted(set(seeds)), len(seeds)) == (["0", "1", "2", "3"], 6)
    assert (tmp_path / "err").read_text().count("attempt 2 of 3") == 2


@pytest.mark.slow
def test_a_lost_head_is_said_and_a_new_head_goes_on(tmp_path):
    with cluster() as made, driver(tmp_path, made, 2) as process:
        until_lines(tmp_path, 2)
        made.head_node.kill_gcs_server()
        assert finish(process)[0] == 4
    said = (tmp_path / "err").read_text()
    assert "E-RAY: the head of the cluster has not answered" in said
    assert "no result is lost" in said
    (tmp_path / "go").touch()
    with cluster() as made, driver(tmp_path, made, 2) as process:
        assert finish(process) == all_ok(2)
    assert not list((tmp_path / "store" / "tmp").iterdir())
