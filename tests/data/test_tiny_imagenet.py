"""Tiny-ImageNet-200 as it is found in the wild: zip, folder, sorted val, junk, damage."""

import contextlib
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from certvae.data import tiny_imagenet
from certvae.data.source import Unreadable
from certvae.data.tiny_imagenet import TinyImageNet, decode
from certvae.errors import DataFault
from tests.small_data import damaged, jpeg, real_data, tiny_files, write_folder, write_zip

JUNK = {
    ".DS_Store": b"\0",
    "train/.DS_Store": b"\0",
    "train/n10000000/.DS_Store": b"\0",
    "train/n10000000/images/.DS_Store": b"\0",
    "train/n10000000/n10000000_boxes.txt": b"n10000000_0.JPEG\t0\t0\t1\t1\n",
    "val/.DS_Store": b"\0",
    "val/images/._val_0.JPEG": b"\0",
    "test/images/test_0.JPEG": b"\0",
    "words.txt": b"n00001740\tentity\n",
}


def folder(path: Path, files: dict[str, bytes]) -> TinyImageNet:
    return TinyImageNet(write_folder(path / "tiny-imagenet-200", files))


def everything(source: TinyImageNet) -> tuple[np.ndarray, np.ndarray, int, str | None]:
    with source.open() as contents:
        return (
            contents.read(np.arange(len(contents.labels))),
            contents.labels,
            contents.n_train,
            contents.deviation,
        )


def refusal(source: TinyImageNet) -> str:
    with pytest.raises(DataFault) as raised:
        everything(source)
    return str(raised.value)


@pytest.mark.parametrize("form", ["zip", "zip without a top folder", "sorted val", "half sorted val", "junk"])
def test_every_form_is_the_same_data_set(tmp_path, form):
    plain = everything(folder(tmp_path / "plain", tiny_files()))
    match form:
        case "zip":
            other = TinyImageNet(write_zip(tmp_path / "a.zip", tiny_files() | JUNK))
        case "zip without a top folder":
            other = TinyImageNet(write_zip(tmp_path / "a.zip", tiny_files(), top=""))
        case "sorted val":
            other = folder(tmp_path, tiny_files(sorted_val=True))
        case "half sorted val":
            files = tiny_files()
            files["val/n10000000/val_0.JPEG"] = files.pop("val/images/val_0.JPEG")
            other = folder(tmp_path, files)
        case _:
            other = folder(tmp_path, tiny_files() | JUNK)
    images, labels, n_train, _ = everything(other)
    np.testing.assert_array_equal(images, plain[0])
    np.testing.assert_array_equal(labels, plain[1])
    assert n_train == plain[2] == 24


def test_labels_count_sorted_wordnet_numbers_and_rows_follow_names(tmp_path):
    _, labels, n_train, deviation = everything(folder(tmp_path, tiny_files(classes=3, train=8, val=9)))
    assert labels[:n_train].tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert labels[n_train:].tolist() == [0, 1, 2] * 3
    assert deviation == "3 of 200 classes, 8 of 500 train images per class, 9 of 10,000 val images"


def test_uneven_classes_are_counted_in_total(tmp_path):
    files = tiny_files()
    del files["train/n10000007/images/n10000007_3.JPEG"]
    assert "23 of 100,000 train images" in str(everything(folder(tmp_path, files))[3])


def test_colour_and_grey_images_become_rgb():
    grey = decode(jpeg(3, mode="L"))
    assert grey.shape == (3, 64, 64)
    assert (grey[0] == grey[1]).all()
    assert (grey[0] == grey[2]).all()
    colour = decode(jpeg(3))
    assert not (colour[0] == colour[1]).all()


def test_the_zip_wins_over_the_folder_beside_it(tmp_path):
    write_folder(tmp_path / "tiny-imagenet-200", tiny_files())
    assert tiny_imagenet.find(tmp_path) == TinyImageNet(tmp_path / "tiny-imagenet-200")
    archive = write_zip(tmp_path / "tiny-imagenet-200.zip", tiny_files())
    assert tiny_imagenet.find(tmp_path) == TinyImageNet(archive)
    assert tiny_imagenet.find(tmp_path / "elsewhere") is None


def test_extra_classes_are_named(tmp_path):
    files = tiny_files()
    files["wnids.txt"] += b"n99999991\nn99999992\n"
    text = refusal(folder(tmp_path, files))
    assert "E-DATA: wnids.txt names 5 classes, without train images: n99999991, n99999992" in text


def test_more_than_200_classes_are_refused(tmp_path):
    files = tiny_files(classes=201, train=1, val=1)
    assert "wnids.txt names 201 classes" in refusal(folder(tmp_path, files))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"wnids.txt": None}, "wnids.txt is absent"),
        ({"wnids.txt": b"n10000000\nn10000014\n"}, "train folders that wnids.txt does not name: n10000007"),
        ({"wnids.txt": b"n10000000\nn10000007\nn10000014\nn10000014\n"}, "names 4 classes, 3 of them distinct"),
        ({"val/val_annotations.txt": None}, "val/val_annotations.txt is absent"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn10000000\n"}, "val images without annotation: val_1.JPEG"),
        ({"val/images/val_8.JPEG": None}, "annotated val images that are absent: val_8.JPEG"),
        ({"val/n10000000/val_0.JPEG": jpeg(0)}, "val holds 10 images, 9 distinct"),
        ({"val/n55555555/val_9.JPEG": jpeg(0)}, "not in wnids.txt: n55555555"),
        ({"val/images/val_0.JPEG": None, "val/n10000007/val_0.JPEG": jpeg(0)}, "another folder than annotated: val_0"),
        ({f"val/images/val_{number}.JPEG": None for number in range(9)}, "val holds 0 images"),
    ],
)
def test_a_layout_that_does_not_agree_is_named(tmp_path, change, words):
    files = tiny_files() | change
    text = refusal(folder(tmp_path, {name: content for name, content in files.items() if content is not None}))
    assert words in text
    assert text.startswith("E-DATA")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image",
        jpeg(0)[:400],
        jpeg(0)[:-200],
        jpeg(0, side=63),
        jpeg(0, form="PNG"),
        jpeg(0, form="GIF"),
    ],
)
def test_unreadable_images_are_named_and_counted(tmp_path, content):
    first, second = "train/n10000000/images/n10000000_1.JPEG", "val/images/val_2.JPEG"
    source = folder(tmp_path, tiny_files() | {first: content, second: content})
    with source.open() as contents, pytest.raises(Unreadable) as raised:
        contents.read(np.arange(len(contents.labels)))
    assert [name.split(" ")[0] for name in raised.value.files] == [first, second]


def test_a_damaged_image_in_a_zip_fails_its_checksum(tmp_path):
    archive = write_zip(tmp_path / "a.zip", tiny_files())
    content = bytearray(archive.read_bytes())
    content[content.index(b"\xff\xd8") + 600] ^= 1
    archive.write_bytes(content)
    with pytest.raises(Unreadable, match="CRC"):
        everything(TinyImageNet(archive))


@settings(deadline=None)
@given(damaged(jpeg(1)))
def test_a_damaged_image_is_decoded_or_unreadable(content):
    index = ("image.JPEG",)
    with contextlib.suppress(Unreadable):
        assert tiny_imagenet.decoded(lambda _: content, index, np.array([0])).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("side", [9_000, 14_000, 65_000])
def test_a_decompression_bomb_is_not_decoded(side):
    """A header that announces up to four thousand million pixels: beyond and below Pillow's own limits."""
    bomb = bytearray(jpeg(0))
    at = bomb.index(b"\xff\xc0") + 5
    bomb[at : at + 4] = side.to_bytes(2, "big") * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises((ValueError, Image.DecompressionBombError), match=r"pixels"):
            decode(bytes(bomb))


@pytest.mark.parametrize("change", ["added", "removed", "other size"])
def test_the_fingerprint_of_a_folder_sees_its_file_list(tmp_path, change):
    source = folder(tmp_path, tiny_files())
    image = source.path / "train/n10000000/images/n10000000_0.JPEG"
    match change:
        case "added":
            image.with_name("n10000000_9.JPEG").write_bytes(jpeg(9))
        case "removed":
            image.unlink()
        case _:
            image.write_bytes(jpeg(9) + b"\0")
    assert TinyImageNet(source.path).fingerprint != folder(tmp_path / "again", tiny_files()).fingerprint


def test_junk_does_not_change_the_fingerprint_of_a_folder(tmp_path):
    hidden = {name: content for name, content in JUNK.items() if "/." in f"/{name}" or name.startswith("test/")}
    assert folder(tmp_path / "a", tiny_files()).fingerprint == folder(tmp_path / "b", tiny_files() | hidden).fingerprint


def test_the_real_zip_is_reported_as_part_of_the_data_set():
    found = tiny_imagenet.find(real_data("tiny-imagenet-200.zip"))
    assert found is not None
    with found.open() as contents:
        assert contents.labels is not None
        assert np.bincount(contents.labels[: contents.n_train]).tolist() == [300] * 200
        assert np.bincount(contents.labels[contents.n_train :]).tolist() == [50] * 200
        assert contents.deviation == "300 of 500 train images per class"
        assert contents.read(np.array([0, 59_999, 69_999])).shape == (3, 3, 64, 64)
