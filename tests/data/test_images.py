"""A folder of images of one's own: what is read of it, how it is split, and what is wrong with it, in words."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certvae.data.dataset import SPLITS, Dataset
from certvae.data.images import ImageFolder, formats
from certvae.data.loading import describe, load
from certvae.errors import DataFault
from certvae.spec.parts import Data
from tests.small_data import jpeg, tiny_files, write_folder

JUNK = {
    "Thumbs.db": b"x",
    "cats/desktop.ini": b"x",
    "cats/@eaDir/0.jpg/SYNOFILE_THUMB_M.jpg": jpeg(1),
    "dogs/.DS_Store": b"x",
    "dogs/._0.jpg": b"x",
    "__MACOSX/cats/._0.jpg": b"x",
    "about.txt": b"mine",
}


def images(classes=("cats", "dogs"), n: int = 10, form: str = "JPEG", **look) -> dict[str, bytes]:
    suffix = {"JPEG": "jpg", "TIFF": "tif"}.get(form, form.lower())
    return {
        f"{label}/{number}.{suffix}": jpeg(100 * place + number, side=look.get("side", 16), form=form)
        for place, label in enumerate(classes)
        for number in range(n)
    }


def below(part: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{part}/{name}": content for name, content in files.items()}


def opened(path: Path, **choices) -> Dataset:
    """As a command does it: described, then loaded by the name that a spec holds."""
    about = describe(f"folder:{path}", size=choices.get("size"))
    cache = path.parent / "cache"
    return load(Data(name=about.name, **choices), about.place, cache=cache, progress=False, verify=True)


def listing(path: Path) -> dict[str, float]:
    return {str(file): file.stat().st_mtime_ns for file in path.rglob("*")}


def sizes(dataset: Dataset) -> list[int]:
    return [len(dataset.rows(split)) for split in SPLITS]


def refusal(path: Path, **choices) -> str:
    with pytest.raises(DataFault) as raised:
        opened(path, **choices)
    assert "remove" not in str(raised.value)
    return str(raised.value)


def test_class_folders_are_labels_and_a_fifth_of_each_is_held_out(tmp_path):
    folder = write_folder(tmp_path / "pets", images())
    dataset = opened(folder)
    assert sizes(dataset) == [14, 2, 4]
    assert (dataset.shape, dataset.classes) == ((3, 16, 16), 2)
    assert sorted(dataset.labels[dataset.rows("certify")].tolist()) == [0, 0, 1, 1]
    assert dataset.substitute == "images of pets, 4 of 20 drawn as test images"


def test_pixels_are_those_of_pillow(tmp_path):
    folder = write_folder(tmp_path / "pets", images(form="PNG"))
    dataset = opened(folder)
    wanted = {np.asarray(Image.open(file)).transpose(2, 0, 1).tobytes() for file in folder.rglob("*.png")}
    assert {image.tobytes() for image in dataset.images} == wanted
    for image, label in zip(dataset.images, dataset.labels, strict=True):
        same = [
            file
            for file in folder.rglob("*.png")
            if np.array_equal(np.asarray(Image.open(file)), image.transpose(1, 2, 0))
        ]
        assert [file.parent.name for file in same] == [("cats", "dogs")[label]]


def test_a_flat_folder_has_no_labels_and_says_so_when_they_are_asked_for(tmp_path):
    dataset = opened(write_folder(tmp_path / "flat", {f"{n}.png": jpeg(n, form="PNG", side=16) for n in range(10)}))
    assert dataset.classes is None
    assert sizes(dataset) == [7, 1, 2]
    with pytest.raises(DataFault, match=r"E-DATA: folder@.* has no labels"):
        _ = dataset.labels
    with pytest.raises(DataFault, match="classes must be absent, got 2: there are no labels"):
        opened(tmp_path / "flat", classes=2)


@pytest.mark.parametrize(
    ("parts", "wanted", "note"),
    [
        (("train", "val", "test"), [20, 20, 20], None),
        (("Training", "Valid", "Testing"), [20, 20, 20], None),
        (("train", "test"), [18, 2, 20], None),
        (("train", "validation"), [18, 2, 20], None),
        (("train",), [14, 2, 4], "4 of 20 drawn"),
    ],
)
def test_official_parts_are_kept(tmp_path, parts, wanted, note):
    files = {name: content for part in parts for name, content in below(part, images()).items()}
    dataset = opened(write_folder(tmp_path / "pets", files))
    assert sizes(dataset) == wanted
    assert dataset.classes == 2
    assert note is None or note in str(dataset.substitute)


def test_test_images_without_classes_are_left_out_and_said(tmp_path):
    """As Tiny-ImageNet, or any contest, publishes them."""
    files = tiny_files(classes=3, train=8, val=9)
    files = {name.replace("n100000", "bird"): content for name, content in files.items()}
    files |= {f"test/images/test_{number}.JPEG": jpeg(number) for number in range(5)}
    dataset = opened(write_folder(tmp_path / "birds", files))
    assert dataset.classes == 3
    assert dataset.substitute == "images of birds, 6 of 24 drawn as test images, test, val not read"


def test_what_a_system_leaves_there_changes_nothing_and_nothing_is_written(tmp_path):
    folder = write_folder(tmp_path / "pets", images())
    first = opened(folder)
    write_folder(folder, JUNK)
    before = listing(folder)
    assert opened(folder) == first
    assert describe(f"folder:{folder}").name == first.name
    assert listing(folder) == before


def test_the_name_is_content_and_no_place(tmp_path):
    first = opened(write_folder(tmp_path / "pets", images()))
    moved = write_folder(tmp_path / "elsewhere" / "animals" / "deeper", images()).parent
    again = opened(moved)
    assert (again.name, again.digest) == (first.name, first.digest)
    write_folder(moved, {"deeper/cats/0.jpg": jpeg(7777, side=16)})
    assert describe(f"folder:{moved}").name != first.name


def test_the_decoded_copy_serves_without_the_folder_and_without_a_place(tmp_path):
    folder = write_folder(tmp_path / "pets", images())
    first = opened(folder)
    folder.rename(tmp_path / "gone")
    assert load(Data(name=first.name), cache=tmp_path / "cache", progress=False) == first
    with pytest.raises(DataFault, match=r"E-DATA: folder@.* was not decoded here before"):
        load(Data(name=first.name, limit=5), cache=tmp_path / "cache", progress=False)


def test_a_changed_folder_is_not_decoded_under_the_old_name(tmp_path):
    folder = write_folder(tmp_path / "pets", images())
    about = describe(f"folder:{folder}")
    write_folder(folder, {"cats/0.jpg": jpeg(4242, side=16)})
    with pytest.raises(DataFault, match=r"E-DATA: folder:.* is folder@\w+ now, and folder@\w+ is wanted"):
        load(Data(name=about.name), about.place, cache=tmp_path / "cache", progress=False)


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_every_format_that_pillow_reads(tmp_path, form):
    assert opened(write_folder(tmp_path / form, images(form=form))).shape == (3, 16, 16)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3), ("CMYK", 3)])
def test_grey_images_make_one_channel_and_others_three(tmp_path, mode, channels):
    (tmp_path / "flat").mkdir()
    for number in range(10):
        image = Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8))
        image.convert(mode).save(tmp_path / "flat" / f"{number}.{'tif' if mode == 'CMYK' else 'png'}")
    assert opened(tmp_path / "flat").shape == (channels, 8, 8)


def test_images_of_several_sizes_are_named_and_a_size_scales_them(tmp_path):
    folder = write_folder(tmp_path / "pets", images(side=16) | {"dogs/wide.jpg": jpeg(3, side=24)})
    text = refusal(folder)
    assert "E-DATA: 1 of 21 images are not of 16 x 16 pixels; first: dogs/wide.jpg, of 24 x 24" in text
    assert "--data.size" in text
    dataset = opened(folder, size=8)
    assert dataset.shape == (3, 8, 8)
    assert "cut and scaled to 8 pixels" in str(dataset.substitute)


@pytest.mark.parametrize("content", [b"", b"no image", jpeg(0, side=16)[:60]])
def test_an_unreadable_image_is_named(tmp_path, content):
    folder = write_folder(tmp_path / "pets", images() | {"dogs/bad.jpg": content})
    assert "1 of 21 images are unreadable; first: dogs/bad.jpg" in refusal(folder)


def test_images_of_formats_that_are_not_read_are_counted(tmp_path):
    """As a telephone writes them, beside others."""
    folder = write_folder(tmp_path / "pets", images() | {f"cats/IMG_{n}.HEIC": b"x" for n in range(3)})
    assert opened(folder).substitute == "images of pets, 4 of 20 drawn as test images, 3 of .heic not read"


def test_a_folder_of_arrays_is_told_to_be_one(tmp_path):
    folder = write_folder(tmp_path / "arrays", {"notes.txt": b"x"})
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))
    assert f"take arrays as they are: --data npz:{folder}" in refusal(folder)
    assert describe(f"npz:{folder}").n == 20


def test_an_image_whose_pixels_are_cut_is_named(tmp_path):
    folder = write_folder(tmp_path / "pets", images() | {"dogs/bad.jpg": jpeg(0, side=16)[:-60]})
    assert "E-DATA: 1 of 21 images are unreadable; first: dogs/bad.jpg" in refusal(folder)


def test_pixels_that_are_no_bytes_are_named(tmp_path):
    folder = write_folder(tmp_path / "pets", images())
    Image.fromarray(np.zeros((16, 16), dtype=np.uint16)).save(folder / "dogs" / "deep.png")
    assert "dogs/deep.png has pixels of mode I;16" in refusal(folder)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "E-DATA: no images in this folder: it is empty"),
        ({"a.txt": b"x", "b/c.csv": b"x"}, "no images in this folder, but files of .csv, .txt"),
        ({"0.jpg": jpeg(0)}, "E-DATA: 1 images: two are the least"),
        (images(n=3) | {"birds/0.jpg": jpeg(5, side=16)}, "a single image in 1 of 3 classes, first birds"),
        (images() | {"loose.jpg": jpeg(5, side=16)}, "1 of 21 images lie in no class folder; first: loose.jpg"),
        (
            below("train", images()) | below("test", images(("cats", "fish"))),
            "no train image in 1 of 3 classes, first fish",
        ),
    ],
)
def test_a_folder_that_is_no_data_set_is_named(tmp_path, files, words):
    (tmp_path / "folder").mkdir()
    assert words in refusal(write_folder(tmp_path / "folder", files))


def test_a_place_that_is_no_folder_is_named(tmp_path):
    assert "E-DATA: no folder of images: it is not there" in refusal(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"x")
    assert "no folder of images: it is a file" in refusal(tmp_path / "file")


def test_no_format_asks_another_program():
    assert not {".eps", ".ps", ".pdf", ".h5", ".mpg", ".wmf"} & formats()
    assert {".png", ".jpg", ".jpeg", ".tif", ".bmp", ".webp", ".gif"} <= formats()


def test_a_link_to_a_folder_is_not_followed_in_a_circle(tmp_path):
    folder = write_folder(tmp_path / "pets", images())
    (folder / "cats" / "again").symlink_to(folder)
    (folder / "cats" / "itself").symlink_to(folder / "cats" / "itself")
    assert len(ImageFolder(folder).index.names) == 20


def test_a_link_to_a_folder_beside_it_is_refused_and_taken_away(tmp_path):
    """As `latest` beside `v2`: every image was there twice, half of them as a class of its own."""
    folder = write_folder(tmp_path / "images", images())
    expected = opened(folder).digest
    (link := folder / "latest").symlink_to(folder / "cats")
    with pytest.raises(DataFault, match="cats/ and latest/ are one folder"):
        opened(folder)
    link.unlink()
    assert opened(folder).digest == expected


def test_a_link_to_a_folder_without_images_is_no_matter(tmp_path):
    folder = write_folder(tmp_path / "images", images())
    expected = opened(folder).digest
    write_folder(folder / "notes", {"a.txt": b"x"})
    (folder / "docs").symlink_to(folder / "notes")
    assert opened(folder).digest == expected


def test_nor_is_one_to_a_part_that_is_not_read(tmp_path):
    folder = write_folder(
        tmp_path / "images", {f"{part}/{name}": x for part in ("train", "val") for name, x in images().items()}
    )
    (folder / "original").symlink_to(folder / "train")
    assert ImageFolder(folder).index.ignored == ("original",)


def test_not_even_where_classes_are_links(tmp_path):
    """Each class has two names then, and a link in one of them is no reason to refuse them all."""
    folder = tmp_path / "images"
    for part in ("train", "val"):
        write_folder(tmp_path / part, images())
        (folder / part).mkdir(parents=True)
        for label in ("cats", "dogs"):
            (folder / part / label).symlink_to(tmp_path / part / label)
    names = ImageFolder(folder).index.names
    (folder / "latest").symlink_to(folder / "train")
    assert (ImageFolder(folder).index.names, ImageFolder(folder).index.ignored) == (names, ("latest",))


def test_folders_that_link_to_each_other_are_refused_at_once(tmp_path):
    """Each was walked in every order of the others: twelve, in a thousand million ways."""
    folder = write_folder(tmp_path / "images", {f"{label}/0.jpg": b"x" for label in range(12)})
    names, labels = ImageFolder(folder).index.names, range(12)
    links = [folder / str(one) / f"to_{other}" for one in labels for other in labels if one != other]
    for link in links:
        link.symlink_to(folder / link.name.removeprefix("to_"))
    with pytest.raises(DataFault, match="passes more than 3 links to folders"):
        _ = ImageFolder(folder).index
    for link in links:
        link.unlink()
    assert ImageFolder(folder).index.names == names


def test_a_folder_without_images_may_have_any_number_of_names(tmp_path):
    folder = write_folder(tmp_path / "images", {**images(), "notes/a.txt": b"x"})
    names = ImageFolder(folder).index.names
    for number in range(100):
        (folder / "cats" / f"notes{number}").symlink_to(folder / "notes")
    assert ImageFolder(folder).index.names == names


def test_class_folders_may_be_links(tmp_path):
    """Subsets of large data sets are made so; a linked class was left out, and nothing said of it."""
    real = write_folder(tmp_path / "real", images())
    (tmp_path / "linked").mkdir()
    for label in ("cats", "dogs"):
        (tmp_path / "linked" / label).symlink_to(real / label)
    assert opened(tmp_path / "linked").digest == opened(real).digest


@pytest.mark.parametrize("suffix", ["webp", "png", "tif"])
def test_photographs_stand_upright_and_say_so(tmp_path, suffix):
    """A camera that was held upright notes it, and leaves the rows of its sensor as they are."""
    pixels = np.arange(2 * 10 * 12 * 16 * 3, dtype=np.uint32).reshape(20, 12, 16, 3) % 251
    noted = Image.Exif()
    noted[0x0112] = 6  # to be turned by 90 degrees
    for form, exif in (("noted", noted), ("plain", Image.Exif())):
        (tmp_path / form).mkdir()
        for number, image in enumerate(pixels.astype(np.uint8)):
            upright = image if form == "noted" else np.rot90(image, -1)
            Image.fromarray(upright).save(tmp_path / form / f"{number}.{suffix}", lossless=True, exif=exif)
    turned, plain = opened(tmp_path / "noted"), opened(tmp_path / "plain")
    assert turned.shape == (3, 16, 12)
    np.testing.assert_array_equal(turned.images, plain.images)
    assert "20 turned upright" in (turned.substitute or "")
    assert "upright" not in (plain.substitute or "")


@pytest.mark.parametrize("noted", [b"Exif\0\0junk", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0"])
def test_a_note_of_a_camera_that_cannot_be_read_turns_nothing(tmp_path, noted):
    (tmp_path / "flat").mkdir()
    for number in range(20):
        Image.open(io.BytesIO(jpeg(number, side=16))).save(tmp_path / "flat" / f"{number}.jpg", exif=noted)
    assert "upright" not in (opened(tmp_path / "flat").substitute or "")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white_and_a_title_says_so(tmp_path, mode):
    """Drawings that are black on nothing were black on black: no image differed from another."""
    rng = np.random.default_rng(0)
    (tmp_path / "flat").mkdir()
    for number in range(20):
        drawn = np.zeros((16, 16, 4), np.uint8)
        drawn[..., 3] = 255 * rng.integers(0, 2, (16, 16))
        image = Image.fromarray(drawn)
        image = image.quantize(4) if mode == "P" else image.convert(mode)
        image.save(tmp_path / "flat" / f"{number}.png")
    dataset = opened(tmp_path / "flat")
    assert set(np.unique(dataset.images)) == {0, 255}
    assert "what is transparent lies on white" in (dataset.substitute or "")


def test_images_that_are_all_one_colour_are_refused(tmp_path):
    (tmp_path / "flat").mkdir()
    for number in range(20):
        Image.new("L", (16, 16), 7).save(tmp_path / "flat" / f"{number}.png")
    assert "E-DATA: all pixels of all train images are" in refusal(tmp_path / "flat")


@pytest.mark.parametrize(("content", "why"), [(b"", "empty"), (b"<html>404</html>", "no image")])
def test_a_file_that_is_no_image_is_named_without_a_word_of_its_library(tmp_path, content, why):
    folder = write_folder(tmp_path / "pets", images() | {"cats/zz.jpg": content})
    assert f"1 of 21 images are unreadable; first: cats/zz.jpg ({why})" in refusal(folder)
