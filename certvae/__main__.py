"""The command `certvae`: certify two arrays, run a study, look after a store, a cluster and this machine.

$ certvae certify teacher.npy logits.npy          certvae run sweeps/tiny_fixed_q.py --data digits
$ certvae report --store DIR --study NAME         certvae store verify --store DIR         certvae doctor --store DIR

`certvae COMMAND --help` explains a command. What a command does not need is not imported: certify reads numpy alone.
"""

from certvae import interrupted  # isort: skip  # noqa: F401 - before all that takes its time
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from operator import or_
from typing import Annotated, Any

import tyro

from certvae import commands
from certvae.errors import ExitCode
from certvae.installed import extra_of
from certvae.terminal import checked_words, guarded
from certvae.upkeep import compact, gc, repair, status, verify

Command = Callable[..., int]


def store_commands() -> int:
    """Look after a store: verify, repair, status, gc, compact."""
    return _group("store", ("--help",))


def cluster_commands() -> int:
    """A study on a cluster, from a laptop: run, fetch."""
    return _group("cluster", ("--help",))


GROUPS: Mapping[str, Mapping[str, Command]] = {
    "store": {one.__name__: one for one in (verify, repair, status, gc, compact)},
    "cluster": {"run": commands.cluster_run, "fetch": commands.cluster_fetch},
}
COMMANDS: Mapping[str, Command] = {
    "certify": commands.certify,
    "certify-latents": commands.certify_latents,
    "run": commands.run,
    "status": commands.study_status,
    "report": commands.report,
    "bundle": commands.bundle,
    "verify": commands.verify_bundle,
    "response": commands.response,
    "ui": commands.ui,
    "ledger": commands.ledger,
    "diff": commands.diff,
    "store": store_commands,
    "cluster": cluster_commands,
    "doctor": commands.doctor,
    "selftest": commands.selftest,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(partial(_command, words), extra=extra_of(words))


def _command(arguments: Sequence[str]) -> int:
    """What follows a study, and all of a report, is read by a command line of its own."""
    match checked_words(arguments):
        case ["run", str(study), *rest] if not study.startswith("-"):
            return commands.run_study(study, rest)
        case ["cluster", "run", str(config), str(study), *rest] if not config.startswith("-"):
            return commands.run_on_cluster(config, study, rest)
        case ["report", *rest]:
            return commands.write_report(rest)
        case ["store" | "cluster" as group, *rest] if rest:
            return _group(group, rest)
        case _:
            return _parsed(COMMANDS, arguments, "certvae", __doc__)


def _group(name: str, arguments: Sequence[str]) -> int:
    return _parsed(GROUPS[name], arguments, f"certvae {name}", COMMANDS[name].__doc__)


def _parsed(known: Mapping[str, Command], arguments: Sequence[str], program: str, about: str | None) -> int:
    match arguments:
        case [name, *rest] if command := known.get(hyphened := name.replace("_", "-")):  # tyro takes either
            return tyro.cli(command, prog=f"{program} {hyphened}", args=rest)
    listed = reduce(or_, (_listed(name, command) for name, command in known.items()))
    return tyro.cli(listed, prog=program, description=f"{about}\n\n{ExitCode.legend()}", args=arguments)


def _listed(name: str, command: Command) -> Any:
    """The command in a list of all, by its first sentence: its own `--help` says the rest."""
    about = (command.__doc__ or "").partition("\n\n")[0]
    return Annotated[int, tyro.conf.subcommand(name, constructor=command, description=about)]


if __name__ == "__main__":
    sys.exit(main())
