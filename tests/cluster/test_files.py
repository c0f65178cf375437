"""The shipped cluster files: valid for this Ray, and safe as they are."""

import re
import subprocess
from pathlib import Path

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster_files import (
    CLOUDS,
    FOLDER,
    HOSTS,
    KUBERNETES,
    NODE,
    ROOT,
    SKYPILOT,
    SLURM,
    commands,
    read,
    starts,
)

every_file = pytest.mark.parametrize("path", [*HOSTS, *CLOUDS], ids=lambda path: path.stem)
every_text = pytest.mark.parametrize("path", [*HOSTS, *CLOUDS, KUBERNETES, SKYPILOT, SLURM], ids=lambda path: path.stem)


def test_every_cluster_file_is_tested():
    assert {*FOLDER.glob("*.yaml")} == {*HOSTS[1:], *CLOUDS, KUBERNETES, SKYPILOT}


@every_file
class TestForRay:
    def test_its_schema_holds(self, path):
        validate_config(prepare_config(read(path)))

    def test_a_misspelt_field_would_be_found(self, path):
        """Or the test above says nothing."""
        with pytest.raises(Exception, match="max_wrokers"):
            validate_config(prepare_config(read(path) | {"max_wrokers": 1}))

    def test_nothing_is_left_to_defaults_that_install_or_end_something(self, path):
        config = read(path)
        assert "setup_commands" in config  # the default of AWS installs a nightly Ray
        assert config["head_start_ray_commands"]  # all defaults begin by ending every Ray on the machine

    def test_nodes_are_set_up_from_the_lock(self, path):
        config = read(path)
        assert "requirements.lock" in config["file_mounts"].values()
        assert config["setup_commands"][-1].endswith("node.sh setup")
        assert not [command for command in commands(config) if re.search(r"\bpip\b", command)]

    def test_the_head_starts_an_autoscaler(self, path):
        [head] = [command for command in starts(read(path)) if "--head" in command]
        assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head


@every_file
class TestSafety:
    def test_ray_is_started_through_the_script_that_wants_a_token(self, path):
        found = starts(read(path))
        assert found
        assert all("node.sh ray start" in command for command in found)

    def test_the_dashboard_listens_on_the_head_alone(self, path):
        for command in starts(read(path)):
            if "--head" in command:
                assert "--dashboard-host=127.0.0.1" in command

    def test_ports_are_ours(self, path):
        """6379 and 10001 are where another Ray would be."""
        for command in starts(read(path)):
            assert ":6390" in command or "--port=6390" in command

    def test_only_the_program_is_copied(self, path):
        mounts = read(path)["file_mounts"]
        assert set(mounts.values()) == {"certvae", "sweeps", "analysis", "requirements.lock"}
        assert all((ROOT / source).exists() for source in mounts.values())

    def test_no_private_key_travels(self, path):
        """Ray copies a key that is named here to the head."""
        assert "ssh_private_key" not in read(path)["auth"] or path in CLOUDS

    def test_the_token_is_made_on_the_head_and_never_on_a_command_line(self, path):
        config = read(path)
        assert any(command.endswith("node.sh token") for command in config["head_setup_commands"])
        workers = config["worker_start_ray_commands"]
        assert config["cluster_synced_files"] == (["~/.certvae/token"] if workers else [])
        assert not [command for command in commands(config) if re.search(r"TOKEN|[0-9a-f]{32}", command)]


@every_text
def test_no_secret_and_no_real_address_is_written_down(path):
    text = path.read_text()
    assert "PRIVATE KEY" not in text
    assert not re.search(r"AKIA|(?i:password|secret_key)", text)
    documented = re.compile(r"10\.|127\.0\.0\.1|0\.0\.0\.0|203\.0\.113\.")  # private, loopback, and for examples
    assert [found for found in re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text) if not documented.match(found)] == []


def test_one_host_takes_two_edits():
    marked = [line for line in HOSTS[0].read_text().splitlines() if "# <-" in line]
    assert [line.split(":")[0].strip() for line in marked] == ["head_ip", "ssh_user"]


def test_one_host_is_closed_to_its_network():
    assert "--node-ip-address=127.0.0.1" in starts(read(HOSTS[0]))[0]


@pytest.mark.parametrize("path", CLOUDS, ids=lambda path: path.stem)
class TestCloud:
    def test_workers_are_spot_and_given_back(self, path):
        config = read(path)
        spot = config["available_node_types"]["spot"]
        assert "SPOT" in str(spot["node_config"]).upper()
        assert "SPOT" not in str(config["available_node_types"]["head"]["node_config"]).upper()
        assert 0 == spot["min_workers"] < spot["max_workers"]
        assert config["idle_timeout_minutes"] <= 30
        assert config["provider"]["cache_stopped_nodes"] is False

    def test_head_and_workers_have_one_device_model(self, path):
        kinds = read(path)["available_node_types"].values()
        models = {kind["node_config"].get("InstanceType") or kind["node_config"]["machineType"] for kind in kinds}
        assert len(models) == 1

    def test_the_world_does_not_reach_a_port(self, path):
        assert "0.0.0.0/0" not in path.read_text()


class TestKubernetes:
    job = read(KUBERNETES)
    cluster = job["spec"]["rayClusterSpec"]

    def pods(self):
        head, workers = self.cluster["headGroupSpec"], self.cluster["workerGroupSpecs"]
        return [group["template"]["spec"] for group in (head, *workers)]

    def test_it_is_a_job_that_resumes_and_cleans_up(self):
        assert (self.job["apiVersion"], self.job["kind"]) == ("ray.io/v1", "RayJob")
        assert self.job["spec"]["shutdownAfterJobFinishes"] is True
        assert self.job["spec"]["backoffLimit"] > 0
        assert self.job["spec"]["entrypoint"].startswith("python sweeps/")
        assert "--address auto" in self.job["spec"]["entrypoint"]

    def test_a_token_is_wanted(self):
        assert self.cluster["authOptions"] == {"mode": "token"}

    def test_ray_is_the_one_of_the_lock(self):
        assert f"ray=={self.cluster['rayVersion']} " in (ROOT / "requirements.lock").read_text()

    def test_all_pods_share_the_store_and_have_memory_to_share(self):
        for pod in self.pods():
            assert {volume["name"] for volume in pod["volumes"]} == {"store", "memory"}
            mounted = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
            assert mounted == {"/shared", "/dev/shm"}  # noqa: S108 - of a pod of our own

    def test_no_pod_is_privileged(self):
        for pod in self.pods():
            assert pod["securityContext"]["runAsNonRoot"] is True
            for container in pod["containers"]:
                assert container["securityContext"]["allowPrivilegeEscalation"] is False
                assert "privileged" not in container["securityContext"]

    def test_the_image_is_built_from_the_lock_and_is_not_root(self):
        steps = (FOLDER / "Dockerfile").read_text()
        assert "--require-hashes -r requirements.lock" in steps
        assert re.search(r"^USER (?!root)", steps, re.MULTILINE)


class TestSkypilot:
    task = read(SKYPILOT)

    def test_it_takes_two_edits(self):
        marked = [line.strip() for line in SKYPILOT.read_text().splitlines() if line.endswith("# <-")]
        assert [re.split(r"[:=]", line)[0] for line in marked] == ["accelerators", "study"]

    def test_it_says_no_more_than_skypilot_reads(self):
        assert self.task.keys() == {"name", "resources", "workdir", "setup", "run"}
        assert self.task["resources"].keys() == {"accelerators", "use_spot", "disk_size"}

    def test_its_study_starts_a_ray_of_its_own(self):
        """That of the host belongs to SkyPilot."""
        subprocess.run(["bash", "-n"], input=self.task["run"], text=True, check=True)
        commands = [line.split()[:2] for line in self.task["run"].splitlines()[1:]]
        assert commands == [[str(NODE.relative_to(ROOT)), word] for word in ("token", "python")]
        assert "--address" not in self.task["run"]


def test_the_shell_of_nodes_parses():
    subprocess.run(["bash", "-n", str(NODE)], check=True)


def test_no_command_for_every_ray_of_a_machine_is_in_a_file_of_nodes():
    for path in (*HOSTS, *CLOUDS, KUBERNETES, SKYPILOT, SLURM, NODE, Path(FOLDER / "Dockerfile")):
        assert not re.search(r"\bray +stop\b", path.read_text()), path.name
