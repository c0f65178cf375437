"""Archives are read by name, never extracted, and never unpacked beyond a bound."""

import contextlib
import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certvae.data import archives
from certvae.data.archives import folder_files, tar_files, zip_files
from certvae.errors import DAMAGED, DataFault
from tests.small_data import damaged, write_folder, write_tar, write_zip

FILES = {"a/one.txt": b"one", "a/two.txt": b"two" * 100, "three.txt": b"three"}
HIDDEN = {".DS_Store": b"x", "a/@eaDir/x.jpg": b"x", "__MACOSX/a/._one.txt": b"x", ".git/config": b"x"}
OUTSIDE = ["../up.txt", "a/../../up.txt", "/etc/up.txt", "C:/up.txt", "c:up.txt", "..\\up.txt", "\\up.txt"]


def test_zip_and_folder_give_the_same_files_without_hidden_ones(tmp_path):
    folder = write_folder(tmp_path / "folder", FILES | HIDDEN)
    archive = write_zip(tmp_path / "files.zip", FILES | HIDDEN, top="")
    with folder_files(folder) as from_folder, zip_files(archive) as from_zip:
        assert set(from_folder.names) == set(from_zip.names) == set(FILES)
        for name, content in FILES.items():
            assert from_folder.read(name) == from_zip.read(name) == content


def test_tar_gives_the_wanted_files(tmp_path):
    archive = write_tar(tmp_path / "files.tar.gz", FILES)
    assert tar_files(archive, {"a/one.txt", "three.txt", "four.txt"}) == {"a/one.txt": b"one", "three.txt": b"three"}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_from_an_archive_becomes_no_path(tmp_path, name):
    """Whatever an archive names, the wanted files are read and nothing is written."""
    bad = FILES | {name: b"evil"}
    here = tmp_path / "here" / "below"
    with zip_files(write_zip(here / "a.zip", bad, "")) as files:
        assert set(FILES) <= set(files.names)
        assert files.read("three.txt") == b"three"
    assert tar_files(write_tar(here / "a.tar.gz", bad), FILES) == FILES
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a.zip", "a.tar.gz"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_not_read(tmp_path, kind):
    archive = tmp_path / "a.tar.gz"
    member = tarfile.TarInfo("a/one.txt")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(archive, "w:gz") as opened:
        opened.addfile(member)
    assert tar_files(archive, {"a/one.txt"}) == {}


@pytest.fixture
def small_bounds(monkeypatch) -> None:
    monkeypatch.setattr(archives, "LARGEST_FILE", 10_000)
    monkeypatch.setattr(archives, "LARGEST_STREAM", 100_000)


@pytest.mark.usefixtures("small_bounds")
def test_a_zip_bomb_is_not_unpacked(tmp_path):
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("zeros.txt", bytes(10**6))
    with zip_files(archive) as files, pytest.raises(ValueError, match="unpacks to more than 10,000 bytes"):
        files.read("zeros.txt")


def bomb(path: Path, place: str) -> None:
    """A .tar.gz of a megabyte of zeros: in a wanted file, in another one, in a header, or behind the end."""
    with gzip.open(path, "wb") as stream:
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            member = tarfile.TarInfo("wanted" if place == "wanted" else "other")
            content = bytes(10**6) if place in ("wanted", "other") else b"x"
            member.size = len(content)
            member.pax_headers = {"comment": "x" * 10**6} if place == "header" else {}
            archive.addfile(member, io.BytesIO(content))
        stream.write(bytes(10**6) if place == "end" else b"")


@pytest.mark.usefixtures("small_bounds")
@pytest.mark.parametrize("place", ["wanted", "other", "header", "end"])
def test_a_tar_bomb_is_not_unpacked(tmp_path, place):
    bomb(tmp_path / "bomb.tar.gz", place)
    assert (tmp_path / "bomb.tar.gz").stat().st_size < 20_000
    with pytest.raises(DataFault, match=r"E-DATA: bomb\.tar\.gz .* more than 100,000 bytes"):
        tar_files(tmp_path / "bomb.tar.gz", {"wanted"})


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_archive_is_named(tmp_path, keep):
    for archive in (write_zip(tmp_path / "a.zip", FILES, ""), write_tar(tmp_path / "a.tar.gz", FILES)):
        content = archive.read_bytes()
        archive.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(DataFault, match=r"E-DATA: a\.zip"), zip_files(tmp_path / "a.zip"):
        pass
    with pytest.raises(DataFault, match=r"E-DATA: a\.tar\.gz"):
        tar_files(tmp_path / "a.tar.gz", FILES)


def test_a_flipped_bit_fails_the_checksum_of_a_tar(tmp_path):
    archive = write_tar(tmp_path / "a.tar.gz", FILES)
    content = bytearray(archive.read_bytes())
    content[-6] ^= 1  # in the CRC-32 that ends a gzip file, after the last byte of the tar
    archive.write_bytes(content)
    with pytest.raises(DataFault, match=r"E-DATA: .*CRC"):
        tar_files(archive, FILES)


def in_memory(write, tmp_path_factory) -> bytes:
    return write(tmp_path_factory.mktemp("whole") / "a", FILES).read_bytes()


@settings(deadline=None)
@given(st.data())
def test_a_damaged_archive_is_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "a.zip").write_bytes(data.draw(damaged(in_memory(write_zip, tmp_path_factory))))
    (folder / "a.tar.gz").write_bytes(data.draw(damaged(in_memory(write_tar, tmp_path_factory))))
    with contextlib.suppress(DataFault), zip_files(folder / "a.zip") as files:
        for name in files.names:
            with contextlib.suppress(*DAMAGED):
                files.read(name)
    with contextlib.suppress(DataFault):
        assert tar_files(folder / "a.tar.gz", FILES).items() <= FILES.items()
