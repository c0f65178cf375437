"""What a user is told to type works where it is typed, and every end has a documented code."""

import errno
import importlib
import itertools
import os
import pty
import pwd
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from certvae import installed, terminal
from certvae.errors import ConfigFault, ExitCode


def test_python_is_called_by_its_name_where_the_shell_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "python").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    assert terminal.python("-c", "print(1)") == "python -c 'print(1)'"


def test_one_is_no_plural() -> None:
    assert [terminal.number_of(count, "cell") for count in (0, 1, 2000)] == ["0 cells", "1 cell", "2,000 cells"]
    assert terminal.number_of(2, "search", "searches") == "2 searches"


@pytest.mark.parametrize("first", ["empty", "another"])
def test_python_is_called_by_its_path_where_the_shell_finds_another_or_none(
    first: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "python").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / first))
    called = shlex.split(terminal.python("-c", "print('a b')"))
    assert subprocess.run(called, capture_output=True, text=True, check=True).stdout == "a b\n"


def test_our_command_is_called_by_its_name_where_the_shell_finds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "certvae").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert terminal.certvae("ui", "--store", "a b") == "certvae ui --store 'a b'"
    monkeypatch.setenv("PATH", "")
    assert terminal.certvae("ui") == f"{tmp_path / 'python3'} -m certvae ui"


class TestGuarded:
    def ends(self, error: BaseException) -> int:
        def command() -> int:
            raise error

        return terminal.guarded(command, again=lambda: "certvae run x")

    def test_a_fault_is_its_own_text_and_code(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.ends(ConfigFault("a", "d", where="b", cause="c")) == ExitCode.WRONG_INPUT
        assert capsys.readouterr().err == "E-CONF: a | b | c | d\n"

    def test_a_missing_package_names_its_extra(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.ends(ModuleNotFoundError("No module named 'ray'", name="ray.tune")) == ExitCode.WRONG_INPUT
        said = capsys.readouterr().err
        assert re.search(r"'ray' is not installed .* run `pip install '\.\[\w+\]'` in the checkout", said)

    def test_an_interruption_says_how_to_go_on(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.ends(KeyboardInterrupt()) == ExitCode.RESUMABLE
        assert "To go on: certvae run x" in capsys.readouterr().out

    def test_sigterm_ends_whatever_is_done_as_ctrl_c_does(self, capsys: pytest.CaptureFixture[str]) -> None:
        def command() -> int:
            os.kill(os.getpid(), signal.SIGTERM)
            return ExitCode.DONE

        assert terminal.guarded(command) == ExitCode.RESUMABLE
        assert capsys.readouterr().out == "stopped; nothing is lost.\n"
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    def test_what_ray_makes_of_sigterm_while_it_starts_is_told_as_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The exit code was 15, and nothing was said."""
        assert self.ends(SystemExit(signal.SIGTERM)) == ExitCode.RESUMABLE
        assert "To go on: certvae run x" in capsys.readouterr().out

    def test_a_bug_is_one_line_and_its_traceback_a_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.ends(ZeroDivisionError("division by zero\nmore")) == ExitCode.BUG
        told = capsys.readouterr().err
        assert "Traceback" not in told
        assert "E-PROC: ZeroDivisionError: division by zero |" in told
        kept = Path(re.findall(r"the file (\S+);", told)[0])
        assert "Traceback" in kept.read_text()
        kept.unlink()

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EROFS])
    @pytest.mark.parametrize("wrapped", [False, True])
    def test_a_full_disk_is_told_as_one_whoever_met_it(
        self, capsys: pytest.CaptureFixture[str], code: int, wrapped: bool
    ) -> None:
        """Logs, views and libraries write past the store."""
        error = RuntimeError("what a library says")
        error.__cause__ = refused = OSError(code, os.strerror(code), "some/log")
        assert self.ends(error if wrapped else refused) == ExitCode.RESUMABLE
        told = capsys.readouterr().err
        assert told.startswith(f"E-DISK: a file could not be written: {os.strerror(code)} | some/log | free space")

    def test_too_many_open_files_are_no_bug_whoever_met_them(self, capsys: pytest.CaptureFixture[str]) -> None:
        code = errno.EMFILE
        assert self.ends(OSError(code, os.strerror(code), "some/log")) == ExitCode.RESUMABLE
        told = capsys.readouterr().err
        assert told.startswith(f"E-DISK: a file could not be opened: {os.strerror(code)} | some/log | raise the limit")

    def test_a_bug_is_told_although_its_traceback_cannot_be_kept(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*given: object, **named: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(terminal.tempfile, "NamedTemporaryFile", refuse)
        assert self.ends(ZeroDivisionError("division by zero")) == ExitCode.BUG
        told = capsys.readouterr().err
        assert "E-PROC: ZeroDivisionError" in told
        assert "no file, since none could be written (No space left on device)" in told

    @pytest.mark.parametrize(("hears", "code"), [(signal.SIG_DFL, ExitCode.RESUMABLE), (signal.SIG_IGN, ExitCode.DONE)])
    def test_the_end_of_its_terminal_ends_it_as_ctrl_c_does_unless_that_is_ignored(self, hears, code) -> None:
        """`nohup` ignores it; else the exit code was that of the signal, and the cursor stayed hidden."""

        def command() -> int:
            os.kill(os.getpid(), signal.SIGHUP)
            return ExitCode.DONE

        with terminal.handled(signal.SIGHUP, hears):
            assert terminal.guarded(command) == code
            assert signal.getsignal(signal.SIGHUP) == hears

    def test_what_a_library_says_of_a_missing_home_is_told_with_what_mends_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A container often runs as a number that its system knows nothing of."""

        def unknown(_: int) -> None:
            raise KeyError("uid not found")

        monkeypatch.setattr(pwd, "getpwuid", unknown)
        monkeypatch.delenv("HOME", raising=False)
        assert terminal.guarded(lambda: len(str(Path.home()))) == ExitCode.WRONG_INPUT
        assert "export HOME=DIR" in capsys.readouterr().err
        with pytest.raises(ConfigFault, match="no home folder"):
            terminal.check_home()
        monkeypatch.setenv("HOME", str(tmp_path))
        terminal.check_home()

    def test_wrong_flags_keep_the_parsers_own_end(self) -> None:
        with pytest.raises(SystemExit):
            self.ends(SystemExit(2))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
@pytest.mark.parametrize("shown", ["print(1)", "sys.exit(print(1))"])
def test_a_full_disk_below_standard_output_is_told_with_a_documented_code(shown: str) -> None:
    code = f"import sys; from certvae.terminal import guarded; sys.exit(guarded(lambda: {shown} or 0))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == ExitCode.RESUMABLE
    assert done.stderr.startswith("E-DISK: a file could not be written: No space left on device | standard output")
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "code", "told"),
    [
        ("mkdir gone && cd gone && rmdir ../gone && {} run os:path", ExitCode.WRONG_INPUT, "folder that this command"),
        ("{} certify --help >&-", ExitCode.DONE, ""),
    ],
)
def test_a_shell_that_stands_nowhere_or_hears_nothing(typed: str, code: int, told: str, tmp_path: Path) -> None:
    command = typed.format(shlex.join([sys.executable, "-m", "certvae"]))
    given = {**os.environ, "PYTHONPATH": str(terminal.PROGRAM.parent)}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=given, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S602 - redirections are what is tried
    assert done.returncode == code
    assert told in done.stderr
    assert bool(told) == bool(done.stderr)


def test_a_terminal_that_is_gone_changes_no_exit_code() -> None:
    """Whatever is said then is an error of its own, and the traceback of that was the end."""
    code = (
        "import sys, time; from certvae.terminal import guarded\n"
        "sys.exit(guarded(lambda: print('ready', flush=True) or time.sleep(100)))"
    )
    child, shown = pty.fork()
    if not child:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where `nohup` runs the tests
        os.execv(sys.executable, [sys.executable, "-c", code])  # noqa: S606
    assert os.read(shown, 5) == b"ready"
    os.close(shown)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == ExitCode.RESUMABLE


@pytest.mark.parametrize("name", ["queue", "numpy"])
@pytest.mark.parametrize(
    ("typed", "code"), [(("-m", "certvae", "status"), ExitCode.REFUSED), (("mine.py",), ExitCode.DONE)]
)
def test_a_file_that_hides_a_module_is_named_and_may_have_another_name(
    name: str, typed: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    """It was a traceback of a library, a bug of ours, or a package that is not installed."""
    given = {**os.environ, "PYTHONPATH": str(terminal.PROGRAM.parent)}
    given.pop("PYTHONSAFEPATH", None)

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *typed]
        return subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, check=False)

    (tmp_path / "mine.py").write_text("from certvae.engine.main import main\nprint('went on')\n")
    hiding = tmp_path / f"{name}.py"
    hiding.write_text("x = 1\n")
    done = run()
    assert done.returncode == ExitCode.WRONG_INPUT
    assert done.stderr.startswith(f"E-CONF: {hiding} is imported in place of ")
    hiding.rename(tmp_path / "my_x.py")
    assert run().returncode == code


def test_a_file_beside_a_script_that_is_run_by_its_name_is_seen(tmp_path: Path) -> None:
    """Its folder is searched twice then: first, and where it stood before."""
    given = {**os.environ, "PYTHONPATH": str(terminal.PROGRAM.parent)}
    given.pop("PYTHONSAFEPATH", None)
    (tmp_path / "mine.py").write_text("from sweeps.tiny_fixed_q import STUDY\n")
    (hiding := tmp_path / "torch.py").write_text("x = 1\n")
    command = [sys.executable, "-m", "certvae", "run", "mine.py", "--data", "digits", "--workers", "0", "--store", "s"]
    done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.WRONG_INPUT
    assert done.stderr.startswith(f"E-CONF: {hiding} is imported in place of ")


@pytest.mark.parametrize(("name", "first"), [("user", False), ("site-packages", True)])
def test_a_package_that_lies_in_two_folders_of_packages_hides_nothing(
    name: str, first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of the user over one of the system: what it lacked was told as a file of theirs, and the error was lost."""
    folders = [tmp_path / name, tmp_path / "system"]
    for folder in folders:
        folder.mkdir()
        (folder / "lies_twice.py").touch()
    there = [*map(str, folders)]
    monkeypatch.setattr(sys, "path", [*there, *sys.path] if first else [*sys.path, *there])
    package = importlib.import_module("lies_twice")
    try:
        assert terminal.guarded(lambda: package.absent) == ExitCode.BUG
    finally:
        del sys.modules["lies_twice"]
    assert "AttributeError: module 'lies_twice' has no attribute 'absent'" in capsys.readouterr().err


def test_a_file_in_a_folder_of_pythonpath_is_seen_and_may_have_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package that it hid was said not to be installed."""
    folders = [tmp_path / name for name in ("lib", "system")]
    for folder in folders:
        folder.mkdir()
        (folder / "lies_beside.py").write_text("" if folder.name == "lib" else "wanted = 0\n")
    monkeypatch.setenv("PYTHONPATH", str(folders[0]))
    monkeypatch.setattr(sys, "path", [*sys.path, *map(str, folders)])

    def run() -> int:
        try:
            return terminal.guarded(lambda: importlib.import_module("lies_beside").wanted)
        finally:
            del sys.modules["lies_beside"]
            importlib.invalidate_caches()

    hiding = folders[0] / "lies_beside.py"
    assert run() == ExitCode.WRONG_INPUT
    assert capsys.readouterr().err.startswith(f"E-CONF: {hiding} is imported in place of {folders[1]}")
    hiding.rename(hiding.with_name("my_own.py"))
    assert run() == 0


SCRIPT = terminal.PROGRAM.parent / "sweeps" / "tiny_fixed_q.py"


@pytest.mark.parametrize("imported", ["certvae.interrupted", "tyro", "certvae.terminal"])
@pytest.mark.parametrize("typed", [("-m", "certvae", "doctor"), (str(SCRIPT), "--data", "digits", "--plan")])
def test_ctrl_c_is_heard_while_a_command_imports(typed: tuple[str, ...], imported: str, tmp_path: Path) -> None:
    """Its imports take a second, and a traceback of 40 lines was all that was said."""
    given = {**os.environ, "PYTHONPATH": str(terminal.PROGRAM.parent)}
    command = [sys.executable, "-X", "importtime", *typed, "--store", str(tmp_path / "store")]
    how = {"cwd": tmp_path, "env": given, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heard = terminal.handled(signal.SIGINT, signal.default_int_handler)  # also where a shell runs the tests behind it
    with heard, subprocess.Popen(command, **how) as process:
        assert process.stderr is not None
        while not re.search(rf"\| +{re.escape(imported)}\n", process.stderr.readline()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=100)
    assert process.returncode == ExitCode.RESUMABLE
    assert said.startswith("stopped; nothing is lost.")
    assert "Traceback" not in complained


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", r"caf\udce9 gr\xfc\xdfe"), ("utf-8", r"caf\udce9 grüße")])
def test_what_a_stream_cannot_write_is_escaped(encoding: str, shown: str) -> None:
    """A path in the encoding of another system, or a user's word, ended a run at its last table."""
    said = "from certvae import terminal; terminal.guarded(lambda: print('caf\\udce9 grüße') or 0)"
    given = {**os.environ, "PYTHONPATH": str(terminal.PROGRAM.parent), "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", said], env=given, capture_output=True, check=False)
    assert (done.stdout.decode(encoding), done.stderr) == (f"{shown}\n", b"")


def test_the_file_of_a_bug_says_a_name_in_another_encoding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name is part of what was typed, and that it could not be written was the only thing said."""
    monkeypatch.setattr(sys, "argv", ["certvae", "run", os.fsdecode(b"caf\xe9.py")])
    monkeypatch.setattr(terminal.tempfile, "tempdir", str(tmp_path))
    assert terminal.guarded(lambda: 1 / 0) == ExitCode.BUG
    (written,) = tmp_path.glob("certvae-error-*.txt")
    assert r"caf\udce9.py" in written.read_text()
    assert str(written) in capsys.readouterr().err


class TestInstalled:
    def test_versions(self) -> None:
        assert installed.version("numpy") == np.__version__
        assert installed.version("no-such-package") == ""

    def test_the_extra_is_read_from_our_own_metadata(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = ["numpy>=2.2", 'ray[tune]==2.60.*; extra == "all"', "ray[tune]==2.60.*; extra == 'sweep'"]
        wanted += ["scikit-learn>=1.8; extra == 'all'"]
        monkeypatch.setattr(installed.metadata, "requires", {installed.OURS: wanted}.get)
        ours = "run `pip install '.{}'` in the checkout of certvae"
        assert installed.remedy("ray.tune") == ours.format("[sweep]")
        assert installed.remedy("sklearn.datasets") == ours.format("[all]")
        assert installed.remedy("numpy") == ours.format("")
        assert installed.remedy("unheard_of") == "run `pip install 'unheard-of'`"

    @pytest.mark.parametrize(
        ("module", "extra"),
        [("torch", "train"), ("sklearn", "train"), ("ray.tune", "sweep"), ("pandas", "report"), ("flint", "rigorous")],
    )
    def test_the_extra_that_is_named_brings_the_module(self, module: str, extra: str) -> None:
        """By the file that pip reads in a checkout."""
        assert installed.remedy(module) == f"run `pip install '.[{extra}]'` in the checkout of certvae"
        wanted = installed.DISTRIBUTIONS.get(module, module.partition(".")[0])
        assert any(re.match(rf"{wanted}\b", one) for one in brought(extra))

    @pytest.mark.parametrize(
        ("words", "module", "extra"),
        [
            (["run", "tiny.py"], "optuna", "all"),
            (["run", "tiny.py"], "torchvision", "features"),
            (["verify", "out"], "torch", "verify"),
            (["verify", "out", "--rigorous"], "flint", "rigorous"),
            (["certify-latents"], "sklearn", "train"),
            (["report"], "pandas", "report"),
        ],
    )
    def test_the_extra_of_a_command_is_named_where_it_brings_the_module(self, words, module, extra) -> None:
        wanted = installed.DISTRIBUTIONS.get(module, module)
        assert f"[{extra}]" in installed.remedy(module, installed.extra_of(words))
        assert any(re.match(rf"{wanted}\b", one) for one in brought(extra))


def brought(extra: str) -> Iterator[str]:
    """What an extra asks for, those in it included."""
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    for one in project["optional-dependencies"][extra]:
        inner = re.fullmatch(r"certvae\[(.+)\]", one)
        yield from itertools.chain(*map(brought, inner[1].split(","))) if inner else (one,)
