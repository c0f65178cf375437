"""Opening a decoded data set must not be felt, and decoding must cost little more than Pillow alone."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certvae.data.dataset import open_dataset
from certvae.data.decoding import publish
from certvae.data.images import ImageFolder
from certvae.data.loading import load, view
from certvae.data.source import Contents
from certvae.data.tiny_imagenet import TinyImageNet
from certvae.spec.parts import Data
from tests.small_data import jpeg, real_data, tiny_files, write_zip

ABOUT = {"name": "mnist", "source": "here", "files": "f", "substitute": None}


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """The fastest of some runs."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return min(found)


def test_opening_takes_milliseconds_whatever_the_number_of_images(tmp_path):
    """100,000 images of 3 x 16 x 16, 77 MB. Measured: 9 ms; the full Tiny-ImageNet copy of 860 MB takes 25 ms."""
    n = 100_000
    images = np.broadcast_to(np.arange(16, dtype=np.uint8), (n, 3, 16, 16))
    contents = Contents.of_arrays(images, np.arange(n) % 10, n_train=90_000, classes=10)
    publish(tmp_path / "copy", view(Data(name="mnist"), contents), ABOUT, label=None)
    assert seconds(lambda: open_dataset(tmp_path / "copy")) < 0.2


def test_decoding_costs_little_more_than_pillow(tmp_path):
    """2,000 JPEG from a zip into a copy. Measured: 1.9 times Pillow alone, 4,000 images a second."""
    content = jpeg(1)
    images = {f"train/n10000000/images/n10000000_{number}.JPEG": content for number in range(2000)}
    archive = write_zip(tmp_path / "a.zip", tiny_files(classes=2, train=1, val=2) | images)

    def pillow() -> None:
        for _ in range(2000):
            np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))

    targets = iter(range(100))
    with TinyImageNet(archive).open() as contents:
        chosen = view(Data(name="tiny-imagenet-200"), contents)
        floor = seconds(pillow, 3)
        found = seconds(lambda: publish(tmp_path / f"{next(targets)}", chosen, ABOUT, label=None), 3)
    assert found < 4 * floor


@pytest.mark.slow
def test_a_folder_of_images_is_decoded_as_fast_as_a_bare_loop_reads_it(tmp_path):
    """100,000 files against `Image.open` alone, by the processor time of the thread that decodes: a second one writes
    and digests beside it. The folder is digested before. Measured: 0.99; 0.80 of the loop where there is one core only.
    """
    n, form = 100_000, [jpeg(number) for number in range(64)]
    for number in range(n):
        file = tmp_path / "images" / f"{number % 200:03d}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(form[number % len(form)])
    source = ImageFolder(tmp_path / "images")
    with source.open() as contents:
        chosen = view(Data(name="mnist"), contents)
        ratios = []
        for start in range(10):
            rows = replace(chosen, rows=chosen.rows[start::10], splits=chosen.splits[start::10].copy())
            names = source.index.names[start::10]
            ours = _processor_time(lambda rows=rows, at=start: publish(tmp_path / f"{at}", rows, ABOUT, label=None))
            bare = _processor_time(lambda names=names: _bare(source.path, names))
            ratios.append(bare / ours)
    alone, in_all = np.median(ratios, axis=0)
    print(f"{alone:.2f} of a bare loop, {in_all:.2f} on one core")
    assert alone >= 0.9


def _processor_time(action: Callable[[], object]) -> np.ndarray:
    """Of this thread, and of all threads."""
    start = np.array([time.thread_time(), time.process_time()])
    action()
    return np.array([time.thread_time(), time.process_time()]) - start


def _bare(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        with Image.open(folder / name) as image:
            np.asarray(image.convert("RGB"))


@pytest.mark.slow
def test_the_whole_tiny_imagenet_is_opened_in_less_than_a_second(tmp_path):
    """70,000 images are decoded once; from then on even the archive's SHA-256 is compared in that time."""
    root, spec = real_data("tiny-imagenet-200.zip"), Data(name="tiny-imagenet-200")
    first = load(spec, root, cache=tmp_path, progress=False)
    assert seconds(lambda: load(spec, root, cache=tmp_path, progress=False), 3) < 1
    assert len(first.labels) == 70_000
