"""Our provider for fixed hosts: what it derives, how it brings a cluster down, which keys it accepts."""

import subprocess

import pytest
from ray.autoscaler._private.command_runner import SSHCommandRunner
from ray.autoscaler._private.providers import _get_node_provider_cls
from ray.autoscaler._private.util import prepare_config, validate_config

from certvae.cluster.hosts import STOP, Hosts, OurHost
from tests.cluster_files import HOSTS, read

MODULE = "certvae.cluster.hosts.Hosts"
PROVIDER = {
    "type": "external",
    "module": MODULE,
    "head_ip": "10.0.0.1",
    "worker_ips": ["10.0.0.2"],
}
AUTH = {"ssh_user": "me"}


@pytest.fixture
def provider(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return Hosts({**PROVIDER, "auth": AUTH}, "test")


@pytest.fixture
def ran(monkeypatch):
    """What would be run over ssh: (address, command)."""
    heard = []
    monkeypatch.setattr(SSHCommandRunner, "run", lambda self, cmd=None, *_, **__: heard.append((self.node_id, cmd)))
    return heard


def runner(provider, host="10.0.0.1"):
    return provider.get_command_runner("", host, AUTH, "test", subprocess, False)


def test_ray_finds_it_by_name():
    assert _get_node_provider_cls(PROVIDER) is Hosts


def test_bringing_a_cluster_down_ends_what_we_started_and_nothing_else(provider, ran):
    runner(provider).run(" ".join(("ray", "stop")))
    assert ran == [("10.0.0.1", STOP)]


def test_other_commands_are_left_as_they_are(provider, ran):
    runner(provider).run("uptime")
    runner(provider).run(None)
    assert ran == [("10.0.0.1", "uptime"), ("10.0.0.1", None)]


def test_a_worker_that_leaves_is_stopped_on_its_own_host(provider, ran):
    provider.terminate_node("10.0.0.2")
    assert ran == [("10.0.0.2", STOP)]
    assert provider.is_terminated("10.0.0.2")


def test_a_host_that_does_not_answer_is_told_and_does_not_hold_up_the_others(provider, monkeypatch, caplog):
    def unreachable(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(SSHCommandRunner, "run", unreachable)
    provider.terminate_node("10.0.0.2")
    assert "10.0.0.2" in caplog.text
    assert provider.is_terminated("10.0.0.2")


def test_a_host_that_changed_its_key_is_refused(provider):
    options = runner(provider).ssh_options.to_ssh_options_list()
    assert "StrictHostKeyChecking=accept-new" in options
    assert not [option for option in options if option.startswith("UserKnownHostsFile")]
    assert isinstance(runner(provider), OurHost)


def test_what_it_remembers_is_private(provider, tmp_path):
    assert (tmp_path / ".certvae" / "clusters").stat().st_mode & 0o077 == 0
    assert (tmp_path / ".certvae" / "clusters" / "test.state").exists()


@pytest.mark.parametrize("path", HOSTS, ids=lambda path: path.stem)
def test_as_many_workers_as_addresses_and_the_head_knows_its_own(path):
    config = prepare_config(read(path))
    derived = Hosts.bootstrap_config(config)
    validate_config(derived)
    addresses = config["provider"]["worker_ips"]
    host = derived["available_node_types"]["host"]
    assert host["min_workers"] == host["max_workers"] == derived["max_workers"] == len(addresses)
    exported = f"export RAY_HEAD_IP={config['provider']['head_ip']}; "
    assert all(command.startswith(exported) for command in derived["head_start_ray_commands"])


def test_the_head_is_given_its_own_way_to_the_workers(provider):
    """Ray may rewrite the key for the head: the copy inside the provider must follow."""
    on_head = {"provider": {"auth": AUTH}, "auth": {"ssh_user": "me", "ssh_private_key": "~/ray_bootstrap_key.pem"}}
    assert provider.prepare_for_head_node(on_head)["provider"]["auth"] == on_head["auth"]
