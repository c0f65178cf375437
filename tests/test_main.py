"""The command line: exit codes are part of the public interface."""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

import certvae
from certvae.__main__ import main
from certvae.engine import selftest as real
from certvae.errors import ExitCode
from certvae.store import selftest as module
from certvae.store.audit import CORRUPT, FOREIGN
from certvae.store.selftest import Tally, draw, run_chain
from certvae.store.store import Store
from certvae.tracking import ui
from certvae.tracking.ledger import Ledger
from tests.small_ledgers import STUDY, database, locked, ready_store, text, wait_until
from tests.small_rows import cell, fill
from tests.typed import help_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    run_chain(store, [0])
    return store


def test_verify_and_repair(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "verify", "--store", str(store.path)]) == 0
    assert "6 entries verified, 0 findings" in capsys.readouterr().out
    (store.path / "obj" / "surplus").touch()
    assert main(["store", "verify", "--store", str(store.path)]) == CORRUPT
    assert "surplus" in capsys.readouterr().out
    assert main(["store", "repair", "--store", str(store.path)]) == 0
    assert main(["store", "verify", "--store", str(store.path)]) == 0


def test_what_repair_cannot_mend_ends_with_a_documented_code(store: Store) -> None:
    [row] = (store.path / "rows" / "selftest").iterdir()
    row.chmod(0o666)
    assert main(["store", "verify", "--store", str(store.path)]) == FOREIGN
    assert main(["store", "repair", "--store", str(store.path)]) == ExitCode.REFUSED
    row.chmod(0o600)
    assert main(["store", "repair", "--store", str(store.path)]) == ExitCode.DONE


def without_empty_folders(store: Store) -> Store:
    """What is left of a store without objects in a copy: object stores and git keep no empty folder."""
    for folder in ("obj", "tmp", "ckpt", "plan", "lock", "quarantine", "views"):
        shutil.rmtree(store.path / folder)
    return store


@pytest.mark.parametrize("command", ["status", "gc", "gc --remove", "compact", "verify", "repair"])
def test_a_copy_without_its_empty_folders_is_a_store(command: str, store: Store) -> None:
    without_empty_folders(store)
    assert len(Store.existing(store.path, reading=True).rows()) == 1
    assert main(["store", *command.split(), "--store", str(store.path)]) == ExitCode.DONE


def test_what_is_damaged_in_such_a_copy_is_repaired(store: Store) -> None:
    (without_empty_folders(store).path / "STORE.json").write_text("{}")
    assert main(["store", "repair", "--store", str(store.path)]) == ExitCode.DONE
    assert len(Store.existing(store.path).rows()) == 1


@pytest.mark.parametrize("command", ["status", "gc", "compact"])
def test_a_store_whose_own_record_is_damaged_is_told_with_what_mends_it(
    command: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was said to be in quarantine, and the same command was to be run again: nothing had been moved."""
    (store.path / "STORE.json").write_text("{}")
    assert main(["store", command, "--store", str(store.path)]) == ExitCode.REFUSED
    assert f"store repair --store {store.path}`" in capsys.readouterr().err
    assert main(["store", "repair", "--store", str(store.path)]) == ExitCode.DONE
    assert main(["store", command, "--store", str(store.path)]) == ExitCode.DONE


def test_what_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "verify", "--store", str(tmp_path)]) == FOREIGN
    assert main(["store", "status", "--store", str(tmp_path)]) == 5
    assert "E-STORE" in capsys.readouterr().err


class Watched(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("words", "said", "heavy"),
    [
        ("report --store {}", "reading rows, and drawing tables and figures ...\nE-", "certvae.analysis.report"),
        ("bundle {}/out --store {}", "computing what the network claims, from pixels ...\nE-", "certvae.bundle"),
        ("verify {}", "computing every number of {} again ...\nE-", "certvae.verifier"),
    ],
)
def test_a_terminal_is_told_at_once_what_seconds_of_silence_are_for(
    words: str, said: str, heavy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the libraries are imported that take these seconds; a pipe and a log are told nothing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where a report of the error goes
    monkeypatch.setitem(sys.modules, heavy, None)  # it cannot be imported: what was said came before
    monkeypatch.delattr(certvae, heavy.split(".")[1], raising=False)
    for stream, wanted in ((Watched(), said.format(tmp_path)), (io.StringIO(), "E-")):
        monkeypatch.setattr(sys, "stderr", stream)
        assert main(words.replace("{}", str(tmp_path)).split()) != ExitCode.DONE
        assert stream.getvalue().startswith(wanted)


def test_status(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "status", "--store", str(store.path)]) == 0
    assert "1 rows of selftest" in capsys.readouterr().out


def test_gc_removes_only_when_told_so(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    unused = store.call(draw, 9).path
    assert main(["store", "gc", "--store", str(store.path), "--older-than-days", "-1"]) == 0
    assert f"{unused}\n1 could be removed with --remove" in capsys.readouterr().out
    assert unused.exists()
    assert main(["store", "gc", "--store", str(store.path), "--older-than-days", "-1", "--remove"]) == 0
    assert "1 removed" in capsys.readouterr().out
    assert not unused.exists()


def test_ledger_makes_a_deleted_or_broken_database_anew_identical(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = ready_store(tmp_path / "studies")
    fill(store, [cell(0), cell(99), cell(0, study="other")], ("guard", "certify"))
    for study in (STUDY, "other"):
        Ledger(store, study).sync(store.rows(study))
    told = text(store)
    for harm in (Path.unlink, partial(Path.write_bytes, data=b"SQLite no more")):
        harm(database(store))
        assert main(["ledger", "--store", str(store.path)]) == 0
        said = capsys.readouterr().out
        assert "MLflow: 14 runs created, 0 updated, 0 unchanged" in said
        assert f"certvae ui --store {store.path}" in said
        assert text(store) == told
    assert main(["ledger", "--store", str(store.path), "--study", "other"]) == 0
    assert "MLflow: 0 runs created, 0 updated, 5 unchanged" in capsys.readouterr().out
    fill(store, [cell(1, study="other")], ("guard", "certify"))
    with locked(store):
        assert main(["ledger", "--store", str(store.path), "--study", "other"]) == 1
    assert "Run the same command again" in capsys.readouterr().out


def test_ledger_makes_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "--store", str(tmp_path / "misspelt")]) == 5
    assert "E-STORE" in capsys.readouterr().err
    assert not (tmp_path / "misspelt").exists()


@pytest.mark.parametrize(("violations", "code"), [([], 0), (["a row is lost"], 1)])
def test_selftest_prints_its_seed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, violations: list[str], code: int
) -> None:
    """The selftest itself is run in test_selftest.py."""

    def ended(kills: int, seed: int, locks: bool) -> Tally:
        return Tally(kills=kills, points=seed, violations=violations)

    monkeypatch.setattr(module, "selftest", ended)
    assert main(["selftest", "--seed", "5"]) == code
    told = capsys.readouterr().out
    assert told.startswith("seed 5: ")
    assert "200 random kills" in told
    assert all(violation in told for violation in violations)


@pytest.mark.parametrize(("violations", "code"), [([], 0), (["a row is lost"], 1)])
def test_selftest_of_a_real_study_prints_a_line_per_kind_of_strike(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, violations: list[str], code: int
) -> None:
    def ended(kills: int, seed: int) -> real.Tally:
        outcomes = real.Outcomes(Counter({-9: kills}), extra=2, again=seed, violations=1)
        return real.Tally({"driver": outcomes}, stores=1, violations=violations)

    monkeypatch.setattr(real, "selftest", ended)
    assert main(["selftest", "--kills", "3", "--seed", "5"]) == code
    told = capsys.readouterr().out
    assert "| driver | 3 | -9 x 3 | 1 | 2 | 5 | 0 |" in told.splitlines()
    assert f"seed 5: {''.join('VIOLATION ' + one + chr(10) for one in violations)}3 strikes on 1 study" in told


@pytest.mark.parametrize(
    "arguments", [[], ["verify"], ["store", "verify", "--stroe", "x"], ["sync"], ["store", "sync"]]
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str]) -> None:
    run = subprocess.run([sys.executable, "-m", "certvae", *arguments], capture_output=True, check=False)
    assert run.returncode == 2


def test_the_module_runs(store: Store) -> None:
    command = [sys.executable, "-m", "certvae", "store", "verify", "--store", str(store.path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_ui_shows_a_store_whose_database_is_gone(tmp_path: Path) -> None:
    """A real server of a real store, asked over http; it listens on this machine alone."""
    store = ready_store(tmp_path / "store")
    fill(store, [cell(0)])
    database(store).unlink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "certvae", "ui", "--store", str(store.path), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("MLflow: 5 runs created")
        assert server.stdout.readline().startswith(f"Open http://127.0.0.1:{port}/#/experiments/")
        client = MlflowClient(f"http://127.0.0.1:{port}")
        wait_until(lambda: _answers(port), 120)
        found = client.get_experiment_by_name(STUDY)
        assert found is not None
        assert len(client.search_runs([found.experiment_id])) == 5
    finally:
        server.terminate()
        server.wait(30)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_that_is_taken_is_said_with_one_that_is_free(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "store")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["ui", "--store", str(store.path), "--port", str(port)]) == 2
        told = capsys.readouterr()
        remedy = int(told.err.rpartition("--port ")[2])
        ui.check_port(remedy)
    assert f"port {port} must be free" in told.err
    assert told.out == ""
    ui.check_port(port)


def test_the_ui_of_no_store_is_refused_and_none_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--store", str(tmp_path / "nothing")]) == 5
    assert "E-STORE" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


CORE_ALONE = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from certvae.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
EXTRAS = {"torch", "sklearn", "scipy", "PIL", "pandas", "ray", "optuna", "mlflow", "pydantic", "psutil", "safetensors"}


def without_extras(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    """A command in an environment that holds what a certificate needs and nothing else."""
    command = [sys.executable, "-c", CORE_ALONE.format(absent=EXTRAS), *arguments]
    told = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, cwd=folder, env=told, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("group", "known"), [("store", "Look after a store"), ("cluster", "A study on a cluster")])
def test_a_group_of_commands_says_what_it_is_for(group: str, known: str) -> None:
    said = help_of(group)
    assert known in said
    assert "certvae certify teacher.npy" not in said  # that is of the command above it
    assert said == help_of(group, "--help")
    assert "certvae certify teacher.npy" in help_of()


def test_the_list_of_commands_fits_a_screen_and_each_says_the_rest_itself() -> None:
    assert len(help_of().splitlines()) <= 60
    assert "certvae bundle out --mode full" not in help_of()
    assert "certvae bundle out --mode full" in help_of("bundle")


def test_a_command_is_the_same_by_either_of_its_spellings() -> None:
    """As a function of Python it has an underscore."""
    assert help_of("certify_latents") == help_of("certify-latents")


@pytest.mark.parametrize("words", [(), ("certify-latents",), ("bundle",), ("report",), ("sweeps/tiny_fixed_q.py",)])
def test_no_help_shows_an_empty_default(words: tuple[str, ...]) -> None:
    said = " ".join(help_of(*words).split())
    assert not re.search(r"\(default: *('')? *\)", said)
    assert words == () or "(default: none)" in said


class TestCertify:
    @pytest.fixture
    def arrays(self, tmp_path: Path) -> Path:
        logits = 2 * np.random.default_rng(0).normal(size=(500, 5))
        teacher = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.save(tmp_path / "teacher.npy", teacher)
        np.save(tmp_path / "logits.npy", logits)
        np.save(tmp_path / "constant.npy", np.zeros_like(logits))
        return tmp_path

    def test_three_claims_need_numpy_alone(self, arrays: Path) -> None:
        done = without_extras("certify", "teacher.npy", "logits.npy", folder=arrays)
        assert (done.returncode, done.stderr) == (0, "")
        assert "on these rows      certified" in done.stdout
        assert "at tau = 0.1" in done.stdout
        assert "in the population" in done.stdout

    def test_a_constant_head_is_not_certified(self, arrays: Path) -> None:
        done = without_extras("certify", "teacher.npy", "constant.npy", folder=arrays)
        assert done.returncode == 1
        assert "on these rows      not certified" in done.stdout

    def test_the_exit_code_is_that_of_the_claim_on_these_rows(self, arrays: Path, monkeypatch, capsys) -> None:
        monkeypatch.chdir(arrays)
        for name in ("teacher", "logits"):
            np.save(f"few_{name}.npy", np.load(f"{name}.npy")[:10])
        assert main(["certify", "few_teacher.npy", "few_logits.npy"]) == ExitCode.DONE
        assert "in the population  not certified" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "given",
        [
            ("logits.npy", "teacher.npy"),
            ("absent.npy", "logits.npy"),
            ("teacher.npy", "x.npy", "--delta", "0"),
            ("teacher.npy", "cut.npz"),
        ],
    )
    def test_what_is_no_pair_is_refused(self, arrays: Path, given: tuple[str, ...]) -> None:
        (arrays / "x.npy").write_bytes(b"no array")
        (arrays / "cut.npz").write_bytes(b"PK\3\4 the head of an archive, and no more")
        done = without_extras("certify", *given, folder=arrays)
        assert done.returncode == 2
        assert done.stderr.startswith("E-CONF")

    @pytest.mark.parametrize(
        ("given", "where"),
        [
            (["logits.npy", "teacher.npy"], "logits.npy, teacher.npy"),
            (["teacher.npy", "logits.npy", "--tau", "-1"], "--tau"),
            (["teacher.npy", "logits.npy", "--partition", "short.npy"], "short.npy"),
            (["teacher.npy", "both.npz"], "both.npz"),
        ],
    )
    def test_a_refusal_names_the_file_or_the_option(self, arrays, given, where, monkeypatch, capsys) -> None:
        monkeypatch.chdir(arrays)
        np.save("short.npy", [0, 1])
        np.savez("both.npz", teacher=np.load("teacher.npy"), logits=np.load("logits.npy"))
        assert main(["certify", *given]) == ExitCode.WRONG_INPUT
        assert where in capsys.readouterr().err.split(" | ")[1]
        np.save("logits.npy", np.load("both.npz")["logits"])  # the remedy of the last one
        assert main(["certify", "teacher.npy", "logits.npy"]) == ExitCode.DONE

    @pytest.mark.parametrize(
        ("command", "extra"),
        [
            (["store", "verify"], "report"),
            (["ledger"], "all"),
            (["report", "--store", "s"], "report"),
            (["verify", "out"], "verify"),
            (["run", "x.py"], "all"),
        ],
    )
    def test_every_other_command_names_the_extra_that_it_lacks(
        self, arrays: Path, command: list[str], extra: str
    ) -> None:
        """And not that of the first module that is missing, after which the next one was."""
        done = without_extras(*command, folder=arrays)
        assert done.returncode == 2
        assert re.search(rf"is not installed .* run `pip install '\.\[{extra}\]'", done.stderr), done.stderr
