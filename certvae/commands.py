"""What each subcommand of `certvae` does: its options are the parameters, its help is the docstring."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from certvae.errors import DAMAGED, ConfigFault, ExitCode, of_numpy
from certvae.terminal import STORE, UI_PORT, announce, certvae, or_none

if TYPE_CHECKING:
    import numpy as np

    from certvae.store.store import Store

# ruff: noqa: PLC0415 - a command imports what it needs when it is called: numpy for one, all of Ray for another

KILLS = 200  # of a store alone
OR_NONE = tyro.conf.arg(help_behavior_hint=or_none)


def certify(
    teacher: tyro.conf.Positional[Path],
    logits: tyro.conf.Positional[Path],
    *,
    tau: float = 0.10,
    delta: float = 0.05,
    looks: int = 1,
    eps: float = 0.0,
    split: str = "certify",
    partition: Path | None = None,
) -> int:
    """Certify arrays of your own: three claims about the same rows, each certified, not certified, or no claim.

    $ certvae certify teacher.npy logits.npy      rows of one split, on which nothing was chosen

    The claims: the margin is positive on these rows; it exceeds tau on them; its lower bound over the population of
    such rows is positive. Exit code 0: the claim on these rows is certified, whatever becomes of the other two
    (`certify-latents` goes by the population claim). 1: it is not, which proves nothing.

    Args:
        teacher: File of an array (n, K), .npy: probabilities of a teacher that never saw the latent.
        logits: File of an array (n, K), .npy: what a head returns that reads the latent and nothing else.
        tau: Safety buffer, nats.
        delta: Error probability of the population bound.
        looks: How often these rows were looked at, this time included; each look gets delta / looks.
        eps: Label smoothing that the teacher rows already contain; the population bound needs none.
        split: Name of the rows; only those of "certify" carry a claim on the population.
        partition: File of an array (K,), .npy: the part of every class, by name or number, to certify as well.
    """
    from certvae import Pairs, properties
    from certvae import certify as measure

    where = f"{teacher}, {logits}"
    try:
        pairs = Pairs.from_logits(_array(teacher), _array(logits), split=split)
        where = "--tau, --delta, --looks, --eps"
        certificate = measure(pairs, delta=delta, looks=looks, eps=eps)
        print(certificate.summary(tau))
        if partition is not None:
            where = str(partition)
            print(properties.summary(pairs, _array(partition)))
    except (ValueError, TypeError) as error:
        raise ConfigFault(str(error).rstrip("."), "mend that; see `certvae certify --help`", where=where) from error
    return ExitCode.DONE if certificate.certified_rows else ExitCode.NO


def _array(path: Path) -> "np.ndarray":
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            with found:
                raise ValueError(f"it is an archive of arrays: {', '.join(found)}")
    except DAMAGED as error:
        told = f"no array can be read: {of_numpy(error)}"
        raise ConfigFault(told, "write it with `numpy.save(path, array)`", where=str(path)) from error
    return found


def certify_latents(
    train: tuple[Path, Path],
    certify: tuple[Path, Path],
    *,
    draws: Annotated[tuple[Path, ...], OR_NONE] = (),
    logvar: tuple[Path, Path] | None = None,
    classes: int = 10,
    delta: float = 0.05,
    looks: int = 1,
    seed: int = 0,
) -> int:
    """Certify an encoder that was trained elsewhere, from files of latents and features: head, mean and channel.

    $ certvae certify-latents --train z_train.npy f_train.npy --certify z.npy f.npy
    $ certvae certify-latents --train z_train.npy f_train.npy --certify z.npy f.npy --logvar v_train.npy v.npy

    A teacher is fitted to the features, the best affine head to the latents of the train rows; both are held against
    the certify rows. Exit code 0: the head is certified in the population (`certify` goes by the claim on its rows). 1:
    it is not, which proves nothing. 2: wrong input, such as fewer train rows than K.

    Args:
        train: Latents (n, d) and features (n, p) of rows that training has seen, .npy files.
        certify: The same of rows that neither training nor any choice has seen; equal rows tell that one has.
        draws: Draws z ~ q(z|x) of the certify rows; with two files, of the train rows and of the certify rows.
        logvar: Log-variances of q(z|x) of the train and of the certify rows: they tell the KL rate and make draws.
        classes: K of the teacher.
        delta: Error probability of each bound.
        looks: How often these certify rows were looked at, this time included; each look gets delta / looks.
        seed: Of the train rows that are held out of fits, and of draws.
    """
    from certvae.latents import certify_latents as measure

    if len(draws) > 2:
        raise ConfigFault(f"--draws takes one file or two, got {len(draws)}", "give draws of one split per file")
    drawn = tuple(map(_array, draws))
    options = {"classes": classes, "delta": delta, "looks": looks, "seed": seed}
    options |= {"draws": drawn if len(drawn) != 1 else drawn[0]} if drawn else {}
    options |= {"logvar": tuple(map(_array, logvar))} if logvar else {}
    (z_train, f_train), (z, f) = map(_array, train), map(_array, certify)
    found = measure((z_train, f_train), (z, f), **options)
    print(found.summary())
    return ExitCode.DONE if found.on_means.certified_population else ExitCode.NO


def run(study: tyro.conf.Positional[str]) -> int:
    """Run a study, or go on with one; options of the study follow, and STUDY --help lists them.

    $ certvae run sweeps/tiny_fixed_q.py --data digits         a script with a Study in it
    $ certvae run mypackage.studies:STUDY --seeds 0 1          a Study of an importable module
    $ certvae run certvae-store                                a store: its last command again, which resumes
    $ certvae run certvae-store --study NAME                   the last command of one of its studies

    Args:
        study: A script, module:NAME, or the folder of a store.
    """
    return run_study(study, ())


def run_study(target: str, arguments: Sequence[str]) -> int:
    """Runs a study with what follows it on the command line."""
    from certvae.engine import launch

    return launch.run(target, arguments)


def study_status(store: Path = STORE, study: str | None = None) -> int:
    """Say where the studies of a store stand: who runs them, how far they are, every cell, the winner of a search.

    $ certvae status --store certvae-store

    Args:
        store: Folder of the store; nothing else is read.
        study: Its study, where the store has several: then every cell is listed.
    """
    from certvae.engine import standing

    return standing.show(_opened(store, reading=True), study)


def report() -> int:
    """Write a study as one page, with every table and figure as files; `certvae report --help` lists its options.

    $ certvae report --store certvae-store --study tiny_fixed_q-digits
    """
    return write_report(("--help",))


def write_report(arguments: Sequence[str]) -> int:
    """Writes a page with what follows `report` on the command line."""
    if not {"-h", "--help"} & set(arguments):
        announce("reading rows, and drawing tables and figures")
    return importlib.import_module("certvae.analysis.report").main(list(arguments))  # in a wheel and in a checkout


def response(
    cell: tyro.conf.Positional[str], *, store: Path = STORE, mode: str = "no_align", data_root: Path | None = None
) -> int:
    """Say whether alignment will wake a network: does it pull at all, and is its weight enough?

    $ certvae response 7d5316 --store certvae-store            the network that no_align ended with

    One step of alignment is taken on a copy and read on the guard rows; the weight comes from the forecast of collapse.
    Exit code 0: it will wake, as far as both say. 1: it will not, and the line names the remedy.

    Args:
        cell: The first digits of a cell, as `--status` of its study prints them.
        store: Folder of the store.
        mode: The mode whose network is asked about.
        data_root: Folder with the data set, where its decoded copy is gone from the store.
    """
    from certvae.engine import asked

    return asked.response(cell, _opened(store).path, mode, data_root)


def ui(store: Path = STORE, port: int = UI_PORT) -> int:
    """Open MLflow's UI on the runs of a store, for this machine alone; Ctrl-C ends it.

    It opens on the networks of a study, sorted by margin. Studies that are not shown are written from the store's rows
    first. With MLFLOW_TRACKING_URI set to a database, its runs are shown.

    Args:
        store: Folder of the store.
        port: It listens on 127.0.0.1 and this port.
    """
    from certvae.tracking import ui as server
    from certvae.tracking.ledger import pages
    from certvae.tracking.uri import HTTP, chosen, database, spelled

    opened, uri = _opened(store), chosen()
    remote = uri is not None and uri.startswith(HTTP)
    if not remote:
        server.check_port(port)
    for study, page in pages(opened, port).items():
        print(f"Open {page} for {study}")
    if remote:
        return ExitCode.DONE
    print("It listens in some seconds; Ctrl-C ends it.", flush=True)
    return server.serve(uri or spelled(database(opened)), port)


def bundle(
    out: tyro.conf.Positional[Path],
    store: Path = STORE,
    study: str | None = None,
    mode: str | None = None,
    seed: int | None = None,
    config: Annotated[str, OR_NONE] = "",
    digest_only: bool = False,
    mlflow: bool = False,
) -> int:
    """Write one network of a final table as a folder that anybody can verify: `certvae verify FOLDER`, from pixels.

    $ certvae bundle out --mode full --seed 0            as they stand in the final table
    $ certvae bundle out                                 lists what fits, where that is more than one

    Args:
        out: A new folder.
        store: Folder of the store.
        study: Its study, where the store has several.
        mode: Column `mode` of the table.
        seed: Column `seed` of the table.
        config: The first digits of its config, where the study has several; in a search only the winner saw such rows.
        digest_only: Leave the images out, for data that may not be passed on; who verifies must bring them.
        mlflow: Show it in MLflow as well: as files of its run, and as a model that `mlflow.pyfunc.load_model` takes.
    """
    announce("computing what the network claims, from pixels")
    from certvae import bundle as making

    opened = _opened(store)
    row = making.chosen(opened, making.Choice(study=study, mode=mode, seed=seed, config=config))
    found = making.write(opened, row, out, digest_only=digest_only)
    print(f"{found.certificate}\n{out}: {row['study']}, {row['mode']} seed {row['seed']}")
    print(f"Verify it anywhere: {certvae('verify', str(out))}")
    return making.logged(opened, row, out) if mlflow else ExitCode.DONE


def verify_bundle(
    folder: tyro.conf.Positional[Path], images: Path | None = None, load: bool = False, rigorous: bool = False
) -> int:
    """Compute the claim of a bundle again, from its pixels, and refuse it with the reason where it is not what it says.

    $ certvae verify out

    No training code is imported and nothing in a bundle is run. Exit code 0: every number came out again. 1: refused.
    2: it is no bundle of this version, or the images that were brought are others, or missing.

    Args:
        folder: What `certvae bundle` wrote.
        images: The certify images, .npy, for a bundle that holds their digests alone.
        load: Read them with the loader of the data set that the bundle names, below CERTVAE_DATA or ./data (data of
            your own: CERTVAE_DATA=folder:PATH, say); labels or views that the teacher reads are compared as well.
        rigorous: Enclose margin and bound in ball arithmetic as well: no digit of them rests on rounding.
    """
    announce(f"computing every number of {folder} again")
    from certvae import verifier

    brought, stated = None if images is None else _array(images), None
    if load:
        from certvae.bundle import of_data

        brought, stated = of_data(folder)
    verified = verifier.verify(folder, brought, stated)
    print(verified)
    if rigorous:
        from certvae.verifier.rigorous import enclosed

        print(enclosed(verified.found))
    return ExitCode.DONE


def ledger(store: Path = STORE, study: str | None = None) -> int:
    """Make the MLflow runs of a store anew, and the bundles that it held, from rows and objects alone: the same again.

    The database in the store, views/mlflow.db, may be missing or broken: it is written anew. Where one study is asked
    for, or MLFLOW_TRACKING_URI is set, runs are compared and mended instead. Exit code 1: MLflow did not take it all.

    Args:
        store: Folder of the store.
        study: Only this study.
    """
    from certvae.tracking.ledger import Ledger, holds_bundles, rebuild

    opened = _opened(store)
    done = rebuild(opened, study)
    print(f"{done}\nSee it: {Ledger(opened, study or '').ui_command}")
    if not done.behind and holds_bundles(opened):  # torch: two seconds that a store without one need not wait
        from certvae.bundle import remembered, show

        return show(opened, remembered(opened, study))
    return ExitCode.NO if done.behind else ExitCode.DONE


def diff(
    cell: tyro.conf.Positional[str],
    other: tyro.conf.Positional[str],
    *,
    store: Path = STORE,
    other_store: Path | None = None,
) -> int:
    """Say what differs between two cells: spec, program, environment and numbers.

    $ certvae diff 25191ad4 7c01be55 --store DIR                          two cells of a store
    $ certvae diff 25191ad4 25191ad4 --store DIR --other-store COPY       one cell, made twice

    Args:
        cell: First digits of its digest, as the column `cell` of --status shows it.
        other: The same of the second one.
        store: Folder of the store.
        other_store: Store of the second cell; the same when absent.
    """
    from certvae.engine.diff import show, side

    first = _opened(store, reading=True)
    second = first if other_store is None else _opened(other_store, reading=True)
    show(side(first, cell), side(second, other))
    return ExitCode.DONE


def doctor(store: Path = STORE, address: str | None = None, needed_gb: float = 10.0) -> int:
    """Say whether this machine, or every node of a cluster, is fit for a long run; exit code 1 if not.

    $ certvae doctor --store DIR                               this machine
    $ certvae doctor --store DIR --address 127.0.0.1:6390      every node of a cluster, one by one

    Args:
        store: Folder of the store; it need not be there yet.
        address: Head of a cluster, as host:port.
        needed_gb: Free space wanted, in gigabytes.
    """
    from certvae.cluster import doctor as health

    findings = health.examine(store, needed_gb) if address is None else health.cluster(address, store, needed_gb)
    print(*findings, sep="\n")
    return health.verdict(findings)


def selftest(kills: int | None = None, seed: int = 0, locks: bool = True) -> int:
    """Try the promise: kill at random moments, run the same again, and compare every byte.

    $ certvae selftest                 a store alone, in a minute: at every durable I/O step, and 200 times at random
    $ certvae selftest --kills 20      a real study on Ray, a minute per kill: of its driver, a worker, Ray's
                                       processes, all, MLflow's server; some are stopped or asked to end, the disk fills

    Exit code 1: a byte differs, a finished stage was begun again, a process was left, or an exit code is not one of
    the documented ones. What shows it is kept in a temporary folder.

    Args:
        kills: How often to strike a real study; a store alone is tried when absent.
        seed: Of the random moments.
        locks: Of the store alone: without them workers may do work twice, and must give the same results.
    """
    if kills is None:
        from certvae.store.selftest import selftest as tried

        tally = tried(KILLS, seed, locks=locks)
    else:
        from certvae.engine.selftest import selftest as tried_for_real

        tally = tried_for_real(kills, seed)
        print(tally.table)
    print(f"seed {seed}: {tally}")
    return ExitCode.NO if tally.violations else ExitCode.DONE


def cluster_run(config: tyro.conf.Positional[Path], study: tyro.conf.Positional[str]) -> int:
    """Start a study on the head of a cluster and print what it prints; results and runs come back when it has ended.

    $ certvae cluster run cluster.yaml sweeps/tiny_fixed_q.py --data digits

    It goes on when the laptop is closed: the same command watches it again, or resumes it.

    Args:
        config: The cluster file that `ray up` was given.
        study: The script, as it is named in this repository; options of the study follow.
    """
    return run_on_cluster(str(config), study, ())


def run_on_cluster(config: str, study: str, arguments: Sequence[str]) -> int:
    """Runs a study on the head of a cluster with what follows it on the command line."""
    from certvae.cluster import launch

    return launch.run(config, study, arguments)


def cluster_fetch(config: tyro.conf.Positional[Path], store: tyro.conf.Positional[str] = str(STORE)) -> int:
    """Bring back what a study on a cluster has made so far.

    $ certvae cluster fetch cluster.yaml certvae-store

    Args:
        config: The cluster file that `ray up` was given.
        store: Folder of the store on the head.
    """
    from certvae.cluster import launch

    print(launch.fetch(str(config), store))
    return ExitCode.DONE


def _opened(store: Path, *, reading: bool = False) -> "Store":
    from certvae.store.store import Store

    return Store.existing(store, reading=reading)
