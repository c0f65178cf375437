"""A command line of ours, read by the parser that it is meant for; nothing is run."""

import contextlib
import functools
import importlib
import io
import re
from collections.abc import Callable, Sequence

import tyro

from analysis.report import Request
from certvae import __main__ as command_line
from certvae.engine.command import parse
from certvae.engine.study import Study
from tests.sweep_runs import REPOSITORY

ANY_STUDY = "sweeps.search_margin_psnr:STUDY"
"""What a placeholder such as STUDY stands for."""


def read(words: Sequence[str]) -> None:
    """Parses what follows `certvae`, or `python`; a word in capitals stands for one that a user puts there.

    Raises:
        AssertionError: with what the parser says, where it refuses.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            _read([word.lower() if word.isupper() else word for word in words])
        except SystemExit as ended:
            refused = bool(ended.code)
        else:
            refused = False
    assert not refused, said.getvalue()


def _read(words: Sequence[str]) -> None:
    match list(words):
        case ["run", target, *rest]:
            parse(study(target), rest)
        case ["cluster", "run", _, target, *rest]:
            parse(study(target), rest)
        case ["report" | "analysis/report.py", *rest]:
            tyro.cli(Request, args=rest)
        case [str(script), *rest] if script.endswith(".py"):
            parse(study(script), rest)
        case [group, *rest] if group in command_line.GROUPS:
            tyro.extras.subcommand_cli_from_dict(
                {name: idle(one) for name, one in command_line.GROUPS[group].items()}, args=rest
            )
        case _:
            known = {name: idle(one) for name, one in command_line.COMMANDS.items()}
            tyro.extras.subcommand_cli_from_dict(known, args=list(words))


def study(target: str) -> Study:
    """What a script of ours or `module:NAME` of ours defines, and some study for the name of somebody else's."""
    module, _, name = target.removesuffix(".py").replace("/", ".").partition(":")
    if not re.fullmatch(r"sweeps\.\w+", module):
        return study(ANY_STUDY)
    return getattr(importlib.import_module(module), name or "STUDY")


def idle(command: Callable[..., int]) -> Callable[..., int]:
    """A command with the same options that does nothing."""

    @functools.wraps(command)
    def nothing(*_: object, **__: object) -> int:
        return 0

    return nothing


@functools.cache
def help_of(*words: str) -> str:
    """What `certvae`, or a script of ours, answers to --help."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        if words[:1] and words[0].endswith(".py"):
            command_line.main(["run", str(REPOSITORY / words[0]), *words[1:], "--help"])
        else:
            command_line.main([*words, "--help"])
    return said.getvalue()
