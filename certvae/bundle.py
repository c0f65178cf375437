"""Makes a bundle of one network of a store: what `certvae.verifier` needs to compute the claim again, and nothing else.

The network is written as layers of the verifier's closed set; one that has others is refused. The claim is what the
verifier computes from these very files, and must be that of the row, up to the float32 in which the row was computed.
Bounds pay for all claims that the table of its config pays for, in equal shares.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
from torch import Tensor, nn

from certvae.canonical import digest, stage_seed
from certvae.certificate import CLAIM_SPLIT, Reference
from certvae.data.dataset import SPLITS, Dataset
from certvae.data.loading import load
from certvae.errors import BundleFault, ExitCode, Fault, NoBundle
from certvae.evaluation import diagnostics
from certvae.evaluation.diagnostics import evaluation
from certvae.evaluation.facts import DELTA, FITTED_ON, affine_heads
from certvae.evaluation.heads import AffineHead
from certvae.looks import Register, alone, claims_of
from certvae.models.nets import HIGHEST, LOWEST, Encoder, RawHead, SimplexWitness, Vae
from certvae.protocols import chain, judging, trained
from certvae.protocols.judging import Drifting, Permuted
from certvae.quality import Status
from certvae.spec.cell import CellSpec
from certvae.spec.modes import named
from certvae.spec.reading import read
from certvae.spec.teachers import PcaGmm
from certvae.store import environments
from certvae.store.artifact import Artifact
from certvae.store.checkpoints import Checkpoints
from certvae.store.disk import disk_faults
from certvae.store.layout import DATA
from certvae.store.lookup import newest, object_of
from certvae.store.records import BUNDLED, documents, put_document
from certvae.store.store import Store, Workbench
from certvae.teachers import kinds
from certvae.teachers.brought import KEPT
from certvae.teachers.kinds import LabelTeacher, PixelTeacher
from certvae.training.baselines import QuantisedEncoder
from certvae.verifier import folder as files
from certvae.verifier.bundle import Computed, assembled, computed, opened, row_digests, tested
from certvae.verifier.programs import KNOWN, POINT

ROUNDING = float(np.finfo(np.float32).eps) ** 0.5  # nats: a row was computed from float32 means, a bundle in float64
CANDIDATES = 20  # networks that are listed where a choice is missing
Row = Mapping[str, Any]
Arrays = dict[str, np.ndarray]
NETWORK = ("study", "cell", "mode")
STRICT: Status = "strict-feasible"
ABOUT = (
    *("study", "cell", "config", "mode", "seed", "data", "data_digest", "substitute", "device", "environment"),
    *("teacher_status", "teacher_source", "key_trained", "key_teacher", "key_warm_up", "spec"),
)
"""Columns of a row that say where its numbers come from."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which network: what stands in the table of a run, as far as it is needed to tell one from the others.

    config    the first digits of its digest
    """

    study: str | None = None
    mode: str | None = None
    seed: int | None = None
    config: str = ""


def chosen(store: Store, choice: Choice) -> Row:
    """The row on certify rows that a choice names; in a search only the winner has such rows.

    Raises:
        NoBundle: it names none, or several; they are listed.
    """
    there = _judged(store, choice.study)
    found = [row for row in there if _fits(row, choice)]
    if len(found) == 1:
        return found[0]
    listed = found or there
    raise NoBundle(
        f"{len(found)} of {len(there)} networks fit" if there else "no network was judged on certify rows here",
        f"name one of them:{_options(listed)}" if listed else "run a study to its end first: `certvae run --help`",
        where=str(store.path),
    )


def _judged(store: Store, study: str | None) -> list[Row]:
    """Rows that can be bundled, as they were written: bounds at the looks of now are a view on them."""
    rows = store.rows(study)
    return newest(store, (row for row in rows if row["split"] == CLAIM_SPLIT and row["outcome"] == "ok"))


def _fits(row: Row, choice: Choice) -> bool:
    return (
        choice.mode in (None, row["mode"])
        and choice.seed in (None, row["seed"])
        and row["config"].startswith(choice.config)
    )


def _options(rows: Sequence[Row]) -> str:
    """One line per network, as it is typed; configs and studies only where there are several."""
    ordered = sorted(rows, key=lambda row: (row["study"], row["config"], row["seed"], row["mode"]))
    lines = []
    for row in ordered[:CANDIDATES]:
        study = f" --study {row['study']}" if len({one["study"] for one in rows}) > 1 else ""
        config = f" --config {row['config'][:6]}" if len({one["config"] for one in rows}) > 1 else ""
        lines.append(f"\n  --mode {row['mode']} --seed {row['seed']}{config}{study}")
    return "".join(lines) + (f"\n  and {len(rows) - CANDIDATES} more" if len(rows) > CANDIDATES else "")


def write(store: Store, row: Row, out: Path, *, digest_only: bool = False) -> Computed:
    """Writes the bundle of a row into a new folder, and returns its claim.

    Args:
        digest_only: leave the certify images out; who verifies must bring them.

    Raises:
        NoBundle: the network or its teacher cannot be bundled, other data are there, or the folder is.
        StoreFault: objects are gone.
        BundleFault: the claim does not come out.
    """
    spec = read(row["spec"])
    dataset = load(spec.data, cache=store.path / DATA, progress=False)
    if dataset.digest != row["data_digest"]:
        raise NoBundle(
            f"the data are {dataset.digest[:12]}, and the row was computed on {row['data_digest'][:12]}",
            "bring the data set of the run back into the store",
            where=str(dataset.path),
        )
    parts = _Parts(store, row, spec, dataset)
    network, weights, rows = parts.network(), parts.weights, parts.rows()
    record = {"settings": {**parts.settings(), "shared_rows": tested(rows).facts["leaked"]}, "about": parts.about()}
    made_in = {"machines": environments.of(store.disk, row["environment"])}
    found = computed(assembled(network, weights, rows, record, made_in), parts.images)
    _check(store, row, found)
    rows |= {"teacher": found.pairs.teacher} | ({} if digest_only else {"images": parts.images})
    record |= {"claim": dict(found.claim), "words": dict(found.words)}
    documents = {files.NETWORK: network, files.RECORD: record, files.ENVIRONMENT: made_in}
    with disk_faults("bundle"):
        files.write(out, documents, {files.WEIGHTS: weights, files.ROWS: rows})
    return found


class Written:
    """Networks as programs of the verifier: layers by name, and the arrays that they name, in `weights`."""

    def __init__(self) -> None:
        self.weights: Arrays = {}

    def encoder(self, encoder: nn.Module, name: str = "") -> dict[str, Any]:
        """The programs body, mu and, but for codes, logvar; their arrays begin with this name.

        Raises:
            NoBundle: it is no encoder of ours, or has a layer that is not in the set.
        """
        if not (type(encoder) is Encoder or isinstance(encoder, QuantisedEncoder)):
            raise NoBundle(
                "an encoder of your own has no bundle: a bundle holds no code",
                "certify what it gives: arrays of `certvae.load`, by `certvae certify` or `certvae certify-latents`",
                where=type(encoder).__name__,
            )
        body = self.program("x", encoder.body, f"{name}body")
        mu = self.program("body", encoder.mu, f"{name}mu")
        if isinstance(encoder, QuantisedEncoder):
            mu["layers"].append([POINT, *self._kept(f"{name}mu", codes=encoder.codes)])
            return {"body": body, "mu": mu}
        logvar = self.program("body", encoder.logvar, f"{name}logvar")
        logvar["layers"].append(["clamp", LOWEST, HIGHEST])
        return {"body": body, "mu": mu, "logvar": logvar}

    def program(self, reads: str, module: nn.Module, name: str) -> dict[str, Any]:
        """One module that reads one thing. Raises: NoBundle for a layer that is not in the set."""
        return {"reads": reads, "layers": list(self._layers(module, name))}

    def affine(self, head: AffineHead, name: str) -> dict[str, Any]:
        """A fitted head on z, in float64."""
        layer = ["linear", f"{name}.weight", f"{name}.bias"]
        self.weights |= {layer[1]: np.ascontiguousarray(head.weight), layer[2]: np.ascontiguousarray(head.bias)}
        return {"reads": "z", "layers": [layer]}

    def _layers(self, module: nn.Module, name: str) -> Iterator[list[Any]]:
        """The layers of a module, in the words of the verifier; their arrays are kept under its name."""
        match module:
            case RawHead():
                yield from self._layers(module.body, name)
            case nn.Sequential():
                for number, child in enumerate(module.children()):
                    yield from self._layers(child, f"{name}.{number}")
            case nn.Flatten() | nn.ReLU() | nn.SiLU():
                yield [type(module).__name__.lower()]
            case nn.Linear():
                yield ["linear", *self._kept(name, weight=module.weight, bias=module.bias)]
            case nn.Conv2d():
                kept = self._kept(name, weight=module.weight, bias=module.bias)
                yield ["conv", *kept, int(module.stride[0]), int(module.padding[0])]
            case nn.GroupNorm():
                kept = self._kept(name, weight=module.weight, bias=module.bias)
                yield ["group_norm", module.num_groups, module.eps, *kept]
            case SimplexWitness():
                yield ["linear", *self._kept(name, weight=module.scaled_vertices), None]
            case _:
                raise _no_bundle(type(module).__name__, f"the layers of a bundle are {KNOWN}")

    def _kept(self, name: str, **tensors: Tensor | None) -> list[str | None]:
        there = {f"{name}.{part}": tensor for part, tensor in tensors.items() if tensor is not None}
        self.weights |= {place: tensor.detach().cpu().numpy().copy() for place, tensor in there.items()}
        return [f"{name}.{part}" if tensor is not None else None for part, tensor in tensors.items()]


class _Parts:
    """What a bundle is made of, out of the objects of a row."""

    def __init__(self, store: Store, row: Row, spec: CellSpec, dataset: Dataset):
        self._row, self._spec, self._dataset, self._store = row, spec, dataset, store
        self._bench = Workbench("cpu", lambda _: None, Checkpoints(store.disk, row["key_trained"]))
        self._teacher = self._made("teacher")
        self._written = Written()
        self.images = np.ascontiguousarray(dataset.images[dataset.rows("certify")])

    @property
    def weights(self) -> Arrays:
        """What programs and teacher name, once they are written down."""
        return self._written.weights

    def settings(self) -> dict[str, Any]:
        """What the claim is computed with."""
        return {
            "delta": DELTA,
            "looks": self._looks(),
            "claims": claims_of(self._store.rows(self._row["study"]), self._row),
            "eps": float(self._teacher.facts["smoothing"]),
            "draw_seed": stage_seed(self._spec.seed, "judge"),
            "scale": float(self._dataset.scale),
        }

    def _looks(self) -> int:
        """At these certify rows, as the store counts them now: more may have been opened since the row was written."""
        register = Register(self._store.disk, self._store.rows(self._row["study"]))
        return register.price(register.of(self._row))

    def about(self) -> dict[str, Any]:
        """Where the numbers come from; what a bundle says here it cannot show."""
        versions = {name: value for name, value in self._row.items() if name.startswith(("version_", "stage_version_"))}
        fitted = {"fitted_on": "train", "chosen_on": "guard"}
        return {name: self._row.get(name) for name in ABOUT} | {"versions": versions, **fitted}

    def network(self) -> dict[str, Any]:
        """The programs and the teacher; what they name is in `weights` afterwards."""
        reads = chain.of(self._spec).reads(self._row["mode"])
        if isinstance(reads, Drifting | Permuted):
            raise _no_bundle(f"mode {self._row['mode']}", "its teacher rows are no fixed function of the image")
        shape, classes = self._dataset.shape, self._teacher.facts["classes"]
        vae = judging.network(reads, self._spec.model, shape, classes, self._made("trained"), self._bench)
        programs = {**self._written.encoder(vae.encoder), "head": self._written.program("z", vae.head, "head")}
        if "affine_margin" in self._row:
            programs |= self._affine(vae)
        teacher = self._taught(programs)
        return {"programs": programs, "teacher": teacher}

    def rows(self) -> Arrays:
        """Digests of all rows, the mean teacher row over train rows, and what else of a row its teacher reads."""
        split = {name: self._dataset.rows(name) for name in SPLITS}
        images = self._dataset.images
        digests = {f"digests_{name}": row_digests(images[row] for row in rows) for name, rows in split.items()}
        train = Reference(teacher=self._teacher.arrays["targets_train"], split="train")
        found = {**digests, "mean_train_row": train.rows(None)[0]}
        if self._row.get("key_warm_up") is not None:
            return found
        match kinds.read(self._teacher, "cpu"):
            case LabelTeacher():
                found["labels"] = self._dataset.labels[split["certify"]]
            case PixelTeacher(shift=shift, seed=seed):
                found["views"] = kinds.drawn_views(self._dataset, "certify", shift, seed)
        return found

    def _affine(self, vae: Vae) -> dict[str, Any]:
        """The heads that were fitted to means and to draws, fitted again: their rows were kept, and they were not."""
        batches = (evaluation(self._dataset, split, None, self._bench) for split in FITTED_ON)
        train, guard = (diagnostics.passage(vae, split) for split in batches)
        fitted = affine_heads(train, guard, self._teacher, self._spec.seed, "cpu")
        names = ("affine_means", "affine_draws")
        return {name: self._written.affine(head, name) for name, head in zip(names, fitted, strict=True)}

    def _taught(self, programs: dict[str, Any]) -> dict[str, Any]:
        """The teacher; the network that it reads features of becomes the program `warm`."""
        facts, arrays = self._teacher.facts, self._teacher.arrays
        if facts["source"] in KEPT:
            raise _no_bundle(
                f"a teacher of source {facts['source']}", "its rows are kept, and no function of the image"
            )
        if self._row.get("key_warm_up") is None and "pixel_components" not in arrays:
            return {"kind": "labels", "classes": facts["classes"], "smoothing": float(facts["smoothing"])}
        self.weights.update(mixture_arrays(facts["chosen"]["covariance"], arrays))
        told = {"temperature": float(facts["chosen"]["temperature"]), "smoothing": float(facts["smoothing"])}
        if "pixel_components" in arrays:
            self.weights.update({f"teacher.{name}": arrays[name] for name in ("pixel_mean", "pixel_components")})
            return {"kind": "pixels", **told}
        vae = trained.network(self._dataset, self._spec.model, facts["classes"], self._made("warm_up"), self._bench)
        read = self._written.encoder(vae.encoder, "warm.")
        programs["warm"] = {"reads": "x", "layers": [*read["body"]["layers"], *read["mu"]["layers"]]}
        return {"kind": "features", **told}

    def _made(self, name: str) -> Artifact:
        return object_of(self._store, self._row, name)


def mixture_arrays(covariance: str, arrays: Arrays) -> Arrays:
    """A mixture in two forms instead of four: precisions by component and direction, or factors of one or of all."""
    factor = arrays["precisions_cholesky_"]
    match covariance:
        case "spherical":
            factor = np.repeat(factor[:, None], arrays["means_"].shape[1], axis=1)
        case "tied":
            factor = factor[None]
    kept = {"weights": arrays["weights_"], "means": arrays["means_"], "precision": factor}
    kept |= {name: arrays[name] for name in ("pca_mean", "pca_map") if name in arrays}
    return {f"teacher.{name}": np.ascontiguousarray(array) for name, array in kept.items()}


def _check(store: Store, row: Row, found: Computed) -> None:
    """The claim of the bundle against that of the row, which was computed from float32 means.

    Heads that were fitted afterwards were fitted again, on another device perhaps to another head: they are left out.
    Bounds of the row are those that its scores give at the share of the bundle.
    """
    bounds = alone(store.disk, row, found.claim["delta"] / found.claim["looks"])
    stated = {name: value for name, value in row.items() if name != "delta" and not name.endswith("_bound")} | bounds
    for name, value in found.claim.items():
        said = None if "affine" in name else stated.get(name)
        if isinstance(value, float) and isinstance(said, float) and abs(value - said) > ROUNDING * max(1, abs(said)):
            raise BundleFault(
                f"{name} comes out as {value:.6f}, and the row says {said:.6f}",
                "run the study again with this version of certvae, and bundle what it makes",
                where=f"cell {row['cell'][:12]}, mode {row['mode']}",
            )


def _no_bundle(what: str, why: str) -> NoBundle:
    return NoBundle(f"{what} has no bundle: {why}", "choose another mode; `certvae bundle --help`")


def best(store: Store, rows: Iterable[Row]) -> list[Row]:
    """The network that these rows of a study are shown by: of the largest bound, strict-feasible, and no control.

    Returns:
        Its row as it was written; none where none of them is certified.
    """
    certified = [row for row in rows if row["split"] == CLAIM_SPLIT and (row.get("population_bound") or 0) > 0]
    fit = [row for row in certified if row.get("teacher_status") == STRICT and row["mode"] not in named("control")]
    if not fit:
        return []
    found = max(fit, key=lambda row: row["population_bound"])
    same = (*NETWORK, "split", "key_judged")  # another machine may have made this network too, and a table shows one
    written = store.rows(found["study"])
    return newest(store, (row for row in written if all(row.get(name) == found[name] for name in same)))


def remembered(store: Store, study: str | None) -> list[Row]:
    """The networks whose bundles MLflow shows, so that one that was made anew is given them again."""
    known = documents(store.disk, BUNDLED).values()
    return [row for row in _judged(store, study) if {name: row[name] for name in NETWORK} in known]


def show(store: Store, rows: Iterable[Row], say: Callable[[str], object] = print) -> ExitCode:
    """Shows the bundles of some networks in MLflow; of one that has none it says why, and nothing is missing then."""
    codes = [ExitCode.DONE]
    for row in rows:
        try:
            codes.append(logged(store, row, say=say))
        except Fault as fault:
            say(f"no bundle of {row['mode']} seed {row['seed']}: {fault.what}")
    return max(codes)


def logged(store: Store, row: Row, out: Path | None = None, say: Callable[[str], object] = print) -> ExitCode:
    """Shows a bundle in MLflow, as files of its run and as a model, says how to load it, and remembers it.

    Args:
        out: where it is; it is made when absent, unless MLflow shows it already.

    Raises:
        NoBundle: the network has none.
    """
    from certvae.tracking import models  # noqa: PLC0415 - mlflow takes seconds, and most bundles need none
    from certvae.tracking.client import Outage  # noqa: PLC0415

    body = {name: row[name] for name in NETWORK}
    put_document(store.disk, BUNDLED, digest(body), body)
    try:
        uri, model = models.log(store, row, partial(write, store, row) if out is None else partial(copytree, out))
    except Outage as outage:
        say(f"MLflow: {outage}. Nothing else is missing; once MLflow is back, `certvae ledger` shows the bundle.")
        return ExitCode.NO
    load = f"mlflow.set_tracking_uri({uri!r}); mlflow.pyfunc.load_model({model!r})"
    say(f"bundle of {row['mode']} seed {row['seed']}, MLflow: {load}")
    return ExitCode.DONE


def of_data(folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The certify images of the data set that a bundle names, found as a study finds it; labels or views that T reads.

    Raises:
        BundleFault: the folder is no bundle, or its record is not well formed.
        DataFault: the data set is not there.
    """
    bundle = opened(folder)
    with files.well_formed(files.RECORD):
        spec, name = read(bundle.record["about"]["spec"]), bundle.teacher.stated(bundle.rows)
    with tempfile.TemporaryDirectory() as cache:
        dataset = load(spec.data, cache=Path(cache))
        rows = dataset.rows("certify")
        match spec.protocol.teacher:
            case PcaGmm(shift=shift) if name:
                stated = kinds.drawn_views(dataset, "certify", shift, stage_seed(spec.seed, "teacher"))
            case _:
                stated = dataset.labels[rows] if name else None
        return dataset.images[rows], stated
