"""What a text tells a user to type is taken: every command of ours by its own parser, and every option by some."""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from certvae.__main__ import COMMANDS, GROUPS, main
from certvae.engine.command import parse
from certvae.errors import ExitCode
from certvae.store.layout import STORE
from certvae.store.store import Store
from sweeps import search_margin_psnr
from tests.sweep_runs import REPOSITORY
from tests.typed import help_of, read

FOREIGN = {
    *{"--require-hashes", "--host", "--allowed-hosts", "--no-restart", "--head"},
    *{"--query-gpu", "--format", "--shm-size"},
}
"""Options of pip, MLflow and Ray; of NVIDIA's driver and of Docker."""
OTHERS = {"--networks", "--seed"}
"""Options of a script that is no study, and reads them by itself."""
ANYTHING = "1"
"""Stands for what a text computes; a number or a name, as it is needed."""
PACKAGES = ("certvae", "analysis", "sweeps")


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted(file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py")):
        yield from ((path, node) for node in ast.walk(ast.parse(path.read_text())))


def texts() -> Iterator[tuple[str, str]]:
    """(place, text) of every string in the product; what an f-string computes is left out."""
    for path, node in nodes():
        if isinstance(node, ast.JoinedStr):
            yield f"{path.name}:{node.lineno}", "".join(map(literal, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield f"{path.name}:{node.lineno}", node.value


def literal(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ANYTHING


def commands() -> Iterator[tuple[str, list[str]]]:
    """(place, words) of every command of ours: in backticks, in an example of a help text, or put together by a call.

    Without `certvae`, or `python`, in front.
    """
    for place, text in texts():
        quoted = re.findall(r"`(?:certvae|python(?= \w+/)) ([a-zA-Z][^`]*)`", text)
        examples = re.findall(r"^ *(?:\$ )?(?:certvae|python(?= \w+/)) ([a-z].+?)(?:   .*)?$", text, re.MULTILINE)
        for one in quoted + examples:
            yield place, shlex.split(one)
    for path, node in nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "certvae":
            yield f"{path.name}:{node.lineno}", list(map(literal, node.args))


COMMANDS_SEEN = sorted({(place, tuple(words)) for place, words in commands()})


@cache
def options() -> frozenset[str]:
    """Every option of every command of ours, the cells of all protocols included."""
    told = [help_of(name) for name in COMMANDS if name not in ("run", *GROUPS)]
    told += [help_of(group, name) for group, named in GROUPS.items() for name in named]
    for study in ("search_margin_psnr", "simplex_search", "cifar100_baselines", "collapse_and_rescue", "curriculum"):
        told.append(help_of(f"sweeps/{study}.py", "--data", "digits"))
    told.append(help_of("sweeps/tiny_fixed_q.py", "--data", "digits", "--teacher", "features:torchvision:resnet18"))
    return frozenset(re.findall(r"--[a-z][\w.-]*", " ".join(told)))


@pytest.mark.parametrize(
    ("place", "words"), COMMANDS_SEEN, ids=lambda one: one if isinstance(one, str) else " ".join(one)
)
def test_every_command_in_a_text_is_one_that_its_parser_takes(place, words):
    match words:
        case ("COMMAND", "--help"):
            pass
        case (name,) if not name.endswith(".py"):
            assert name in COMMANDS
        case (group, name) if group in GROUPS:
            assert name in GROUPS[group]
        case ("sweeps/diagnostics_against_truth.py", *rest):
            assert {word for word in rest if word.startswith("-")} <= OTHERS
        case _:
            read(words)


def test_every_option_that_a_text_names_exists():
    named = {
        (place, option)
        for place, text in texts()
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*(?:\.[a-z][\w-]*)*", text)
    }
    known = options() | FOREIGN | OTHERS
    groups = {option.rpartition(".")[0] for option in known if "." in option}
    missing = {(place, one) for place, one in named if one not in known | groups and not one.startswith("--no-")}
    assert missing == set()


class TestRemediesAreExecuted:
    """From another folder: the command succeeds, or it changes the fault."""

    def typed(self, text: str, folder: Path) -> subprocess.CompletedProcess:
        """What a shell makes of a printed command, which may begin with `certvae` or with a path of Python."""
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(
            ["bash", "-c", text], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )

    @pytest.fixture
    def store(self, tmp_path, monkeypatch):
        """One whose name a shell must not read."""
        monkeypatch.chdir(tmp_path)
        return Store(tmp_path / "a store; it's 100%").path

    def test_a_damaged_store(self, store, capsys, tmp_path_factory):
        (store / STORE).write_bytes(b"no store any more")
        relative = store.name
        assert main(["ledger", "--store", relative]) == ExitCode.REFUSED
        first = capsys.readouterr().err
        remedy = re.findall(r"run `(.+?)`", first)[-1]
        assert self.typed(remedy, tmp_path_factory.mktemp("elsewhere")).returncode in (0, 1, 2)
        main(["ledger", "--store", relative])
        assert capsys.readouterr().err != first

    def test_a_store_that_others_may_write(self, store, capsys, tmp_path_factory):
        store.chmod(0o777)
        study = ["run", str(REPOSITORY / "sweeps" / "tiny_fixed_q.py"), "--data", "digits", "--plan"]
        assert main([*study, "--store", str(store)]) == ExitCode.REFUSED
        remedy = re.findall(r"run `(.+?)`", capsys.readouterr().err)[-1]
        assert self.typed(remedy, tmp_path_factory.mktemp("elsewhere")).returncode == 0
        assert main([*study, "--store", str(store)]) == 0

    def test_a_store_of_somebody_else(self, store, capsys, monkeypatch):
        """Where nobody may change its owner: a mount of a container or of WSL."""
        theirs = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: theirs)
        study = ["run", str(REPOSITORY / "sweeps" / "tiny_fixed_q.py"), "--data", "digits", "--plan"]
        assert main([*study, "--store", str(store)]) == ExitCode.REFUSED
        name, value = re.findall(r"set (\w+)=(\w+)", capsys.readouterr().err)[-1]
        monkeypatch.setenv(name, value)
        assert main([*study, "--store", str(store)]) == 0
        assert "trusted" in {path.stem for path in (store / "log").iterdir()}

    def test_the_command_that_goes_on(self, store, tmp_path_factory, monkeypatch):
        """Typed in one folder with relative paths, run in another."""
        from certvae.engine.command import Command, anywhere  # noqa: PLC0415

        given = ["--data", "digits", "--store", store.name, "--plan"]
        run, _, _ = parse(search_margin_psnr.STUDY, given)
        for target in (None, str(REPOSITORY / "sweeps" / "search_margin_psnr.py"), "sweeps.search_margin_psnr:STUDY"):
            monkeypatch.setattr(sys, "argv", [str(REPOSITORY / "sweeps" / "search_margin_psnr.py")])
            done = self.typed(str(Command(target, anywhere(given, run))), tmp_path_factory.mktemp("elsewhere"))
            assert done.returncode == 0, done.stderr
            assert "3 cells, 0 done before" in done.stdout
