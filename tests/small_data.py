"""Writes small data sets in the official layouts, for tests that must not need the real ones."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

TEST_DATA_VARIABLE = "CERTVAE_TEST_DATA"


def real_data(part: str) -> Path:
    """The folder with real data, or a skip that says what is absent."""
    beside_checkout = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get(TEST_DATA_VARIABLE) or beside_checkout)
    if not (root / part).exists():
        pytest.skip(f"{part} is not below {TEST_DATA_VARIABLE} or ../shared/data")
    return root


def jpeg(seed: int, *, side: int = 64, mode: Literal["RGB", "L"] = "RGB", form: str = "JPEG") -> bytes:
    """A smooth image, so that compression changes it little."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(rough).resize((side, side), Image.Resampling.BILINEAR).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, form, quality=95)
    return buffer.getvalue()


def tiny_files(classes: int = 3, train: int = 8, val: int = 9, *, sorted_val: bool = False) -> dict[str, bytes]:
    """Tiny-ImageNet-200 as {name: bytes}: every fifth train image is grey, wnids.txt is not sorted."""
    wnids = [f"n{10_000_000 + 7 * number}" for number in range(classes)]
    files = {"wnids.txt": "".join(f"{wnid}\n" for wnid in reversed(wnids)).encode()}
    for label, wnid in enumerate(wnids):
        for number in range(train):
            mode = "L" if number % 5 == 4 else "RGB"
            files[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = jpeg(1000 * label + number, mode=mode)
    annotations = ""
    for number in range(val):
        wnid = wnids[number % classes]
        folder = f"val/{wnid}/images" if sorted_val else "val/images"
        files[f"{folder}/val_{number}.JPEG"] = jpeg(500_000 + number)
        annotations += f"val_{number}.JPEG\t{wnid}\t0\t0\t63\t63\n"
    return files if sorted_val else files | {"val/val_annotations.txt": annotations.encode()}


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write_zip(path: Path, files: dict[str, bytes], top: str = "tiny-imagenet-200/") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


class Evil:
    """Pickled, it is a request to call something."""

    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


def batch(n: int, classes: int, label: str, seed: int, protocol: int = 2) -> bytes:
    """One CIFAR batch: n images of 3 x 32 x 32 in rows of 3,072 bytes."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
    labels = [int(value) for value in rng.permutation(np.arange(n) % classes)]
    content = {"data": images, label: labels, "filenames": [f"image_{number}.png" for number in range(n)]}
    return pickle.dumps(content, protocol=protocol)


def cifar_files(name: Literal["cifar10", "cifar100"], train: int = 200, test: int = 100) -> dict[str, bytes]:
    """A CIFAR archive as {name: bytes}."""
    if name == "cifar100":
        parts = {"train": (train, 1), "test": (test, 2)}
        return {f"cifar-100-python/{key}": batch(n, 100, "fine_labels", seed) for key, (n, seed) in parts.items()}
    parts = {f"data_batch_{number}": (train // 5, number) for number in range(1, 6)} | {"test_batch": (test, 9)}
    return {f"cifar-10-batches-py/{key}": batch(n, 10, "labels", seed) for key, (n, seed) in parts.items()}


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_files(train: int = 60, test: int = 30, *, packed: bool = True) -> dict[str, bytes]:
    """The four files of MNIST as {name: bytes}, with every digit in both parts."""
    files: dict[str, bytes] = {}
    for prefix, n, seed in (("train", train, 1), ("t10k", test, 2)):
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = rng.permutation(np.arange(n, dtype=np.uint8) % 10)
        files |= {f"{prefix}-images-idx3-ubyte": idx(images), f"{prefix}-labels-idx1-ubyte": idx(labels)}
    return {f"{name}.gz": gzip.compress(content) for name, content in files.items()} if packed else files


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with some bytes changed, and perhaps cut off."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        changed[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(content)) | st.just(len(content)))])
