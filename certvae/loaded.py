"""A trained network out of a store: what the store holds of it, and nothing retyped.

from certvae import load

model = load("certvae-store", "tiny_fixed_q-digits", mode="full", seed=0)
mu, logvar = model.encode(model.images("certify"))
print(model.certify())

x   (n, C, H, W)  pixels in [0, 1]      mu, logvar, z  (n, d)   latent       T  (n, K)  teacher rows, float32
a   (n, K)        logits of the raw head, float64                            rows in the order of the split
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from certvae import data, fingerprint
from certvae.certificate import Certificate
from certvae.data.dataset import Dataset, Split
from certvae.errors import ConfigFault, DataFault, StoreFault
from certvae.evaluation import diagnostics
from certvae.evaluation.diagnostics import EVALUATION_ROWS
from certvae.looks.register import Register
from certvae.models import arithmetic
from certvae.models.nets import Vae
from certvae.protocols import chain, judging
from certvae.protocols.judging import Look, Subject
from certvae.spec.cell import CellSpec
from certvae.spec.reading import read
from certvae.spec.validation import refuse
from certvae.store.artifact import Artifact
from certvae.store.checkpoints import Checkpoints
from certvae.store.layout import DATA
from certvae.store.lookup import newest, object_of
from certvae.store.store import Store, Workbench

CERTIFY: Split = "certify"
Row = Mapping[str, Any]


def load(
    store: Path | str,
    study: str,
    mode: str,
    seed: int,
    *,
    config: str | None = None,
    data_root: Path | str | None = None,
    device: str | None = None,
) -> "Loaded":
    """The network of one mode and seed of a study, as the store holds it; the store is read, and may be an archive.

    Args:
        config: first digits of a config's digest, where the study has several.
        data_root: where official files are, if neither the store nor the usual places have them.
        device: such as cuda:0; the first GPU, or the CPU, when absent.

    Raises:
        StoreFault: the folder is no store, or an object of it is gone.
        ConfigFault: nothing there has this study, mode, seed and config; what there is, is listed.
    """
    opened = Store.existing(Path(store), reading=True)
    row = _chosen(opened, {"study": study, "mode": mode, "seed": seed, "config": config or ""})
    return Loaded(opened, row, data_root, device or fingerprint.device())


@dataclass(frozen=True, eq=False)
class Loaded:
    """One trained network of a store.

    row  what the store says of it: on certify rows where these were opened, else on guard rows
    """

    store: Store
    row: Row
    data_root: Path | str | None
    device: str

    def __repr__(self) -> str:
        named = ", ".join(f"{name} {self.row[name]}" for name in ("study", "mode", "seed"))
        return f"{named}, cell {self.row['cell'][:12]} of {self.store.path}"

    @cached_property
    def spec(self) -> CellSpec:
        """The cell that it was trained as."""
        return read(self.row["spec"])

    @cached_property
    @arithmetic.of_results()
    def network(self) -> Vae:
        """Encoder, decoder and raw head, with the weights that were trained; ready for evaluation, on the device."""
        shape = self._artifact("judged").arrays["originals"].shape[1:]
        reads = chain.of(self.spec).reads(self.row["mode"])
        vae = judging.network(
            reads, self.spec.model, shape, self.row["classes"], self._artifact("trained"), self._bench
        )
        return vae.eval()

    @arithmetic.of_results()
    @torch.inference_mode()
    def encode(self, x: Any) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
        """Posterior means and log-variances of images, float32.

        Args:
            x: pixels in [0, 1], an array or a tensor; `images` gives those of the study.

        Raises:
            ConfigFault: another shape, or pixels outside.
        """
        found = [self.network.encoder(chunk.to(self.device)) for chunk in self._pixels(x).split(EVALUATION_ROWS)]
        mu, logvar = (torch.cat(part).cpu().numpy() for part in zip(*found, strict=True))
        return mu, logvar

    @arithmetic.of_results()
    def logits(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n K"]:
        """Logits of the raw head on latent rows, float64: what a certificate reads."""
        return diagnostics.head_logits(self.network.head, np.asarray(z))

    @arithmetic.of_results()
    @torch.inference_mode()
    def decode(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n C H W"]:
        """Reconstructions in [0, 1] of latent rows; a decoder that expects a teacher row gets the uniform one."""
        rows = torch.as_tensor(np.asarray(z), dtype=torch.float32).split(EVALUATION_ROWS)
        return torch.cat([self.network.decoder(one.to(self.device)).sigmoid() for one in rows]).cpu().numpy()

    @cached_property
    def dataset(self) -> Dataset:
        """The data of the study: the copy that the store keeps, else found or downloaded.

        Raises:
            DataFault: there is none, or it is not the data that the network was trained on.
        """
        found = data.load(self.spec.data, self.data_root, cache=self.store.path / DATA, progress=False)
        if found.digest != self.row["data_digest"]:
            wanted = self.row["data_digest"][:12]
            raise DataFault(
                f"wanted the data {wanted} that the network was trained on, found {found.digest[:12]}",
                "give data_root=, the folder with the data of that run",
                where=found.source,
            )
        return found

    def images(self, split: Split) -> Float[np.ndarray, "n C H W"]:
        """Pixels in [0, 1] of a split, float32."""
        return self.dataset.images[self.dataset.rows(split)] * np.float32(self.dataset.scale)

    @arithmetic.of_results()
    def teacher(self, split: Split) -> Float[np.ndarray, "n K"]:
        """T of every row of a split, as the network is held against them; those of certify are computed anew."""
        return self._exam(split).teacher

    @arithmetic.of_results()
    def certify(self, split: Split = CERTIFY) -> Certificate:
        """The certificate of the raw head on a split, made again from the weights, at the looks of now.

        It is one claim with all of delta / looks; the claims of a table share that by Holm. Rows that do not count are
        left out of its bounds, as in a table; see `certvae.preconditions`.

        Raises:
            StoreFault: certify rows, which were not opened for this config: that is a look, and costs all others.
        """
        if split == CERTIFY:
            self._check_opened()
        exam = self._exam(split)
        pairs = exam.pairs(exam.raw_logits())
        return exam.certify(pairs) if exam.tested is None else exam.tested.certify(pairs, **exam.options)

    @cached_property
    def _bench(self) -> Workbench:
        return Workbench(self.device, lambda _: None, Checkpoints(self.store.disk, self.row["key_trained"]))

    def _exam(self, split: Split) -> Any:
        warm = self._artifact("warm_up") if "key_warm_up" in self.row else None
        subject = Subject(self.dataset, self.spec.model, self._artifact("teacher"), self._artifact("trained"), warm)
        looks = self._register.price(self._register.of(self.row)) if split == CERTIFY else self.row.get("looks", 1)
        look = Look(split, looks, self.spec.seed)
        return judging.examined(subject, look, chain.of(self.spec).reads(self.row["mode"]), self._bench)

    @property
    def _register(self) -> Register:
        """The looks of now."""
        return Register(self.store.disk, self.store.rows(self.row["study"]))

    def _check_opened(self) -> None:
        if self._register.find(self.row["study"], self.row["config"]) is None:
            raise StoreFault(
                f"certify rows were not opened for config {self.row['config'][:12]} of study {self.row['study']}",
                "ask for certify('guard'), or run this config as a study of its own, which opens them and counts it",
                where=str(self.store.path),
                cause="a config that is held against certify rows is a look, and every bound on them pays for it",
            )

    def _artifact(self, name: str) -> Artifact:
        return object_of(self.store, self.row, name)

    def _pixels(self, x: Any) -> torch.Tensor:
        rows = torch.as_tensor(x.detach() if isinstance(x, torch.Tensor) else np.asarray(x))
        shape = self._artifact("judged").arrays["originals"].shape[1:]
        if rows.ndim != 4 or rows.shape[1:] != shape:
            raise refuse(
                "x", f"images (n, {', '.join(map(str, shape))})", tuple(rows.shape), "reshape it, or add an axis"
            )
        if not (rows.is_floating_point() and len(rows) and rows.min() >= 0 and rows.max() <= 1):
            found = f"{rows.dtype} up to {rows.max()}" if len(rows) else "no row"
            raise refuse("x", "pixels as numbers in [0, 1]", found, "divide by the largest value, such as 255")
        return rows.float()


def _chosen(store: Store, wanted: dict[str, Any]) -> Row:
    """The row of one network: of certify before guard before train."""
    rows = [row for row in store.rows() if "key_trained" in row]
    found = [row for row in rows if _matches(row, wanted)]
    configs = {row["config"] for row in found}
    if len(configs) != 1:
        raise _not_one(store, wanted, rows, sorted(configs))
    last = {row["split"]: row for row in newest(store, found)}
    return next(last[split] for split in (CERTIFY, "guard", "train") if split in last)


def _matches(row: Row, wanted: Mapping[str, Any]) -> bool:
    same = all(row[name] == wanted[name] for name in ("study", "mode", "seed"))
    return same and row["config"].startswith(wanted["config"])


def _not_one(store: Store, wanted: Mapping[str, Any], rows: Iterable[Row], configs: list[str]) -> ConfigFault:
    asked = ", ".join(f"{name} {value!r}" for name, value in wanted.items() if value != "")
    if configs:
        return ConfigFault(
            f"{asked} are {len(configs)} networks of different configs",
            f"give config=, one of {', '.join(config[:12] for config in configs)}",
            where=str(store.path),
        )
    of_study = [row for row in rows if row["study"] == wanted["study"]]
    names = ("mode", "seed", "config") if of_study else ("study",)
    there = {name: sorted({row[name] for row in of_study or rows}) for name in names}
    shown = "; ".join(
        f"{name} {', '.join(_short(name, one) for one in found)}" for name, found in there.items() if found
    )
    return ConfigFault(
        f"no trained network has {asked}",
        f"name what is there: {shown}" if shown else "run a study on this store first: no network has ended there",
        where=str(store.path),
    )


def _short(name: str, value: Any) -> str:
    return value[:12] if name == "config" else str(value)
