"""Archives are read by name, never extracted, and refused when they were made to harm."""

import contextlib
import stat
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certvae.data.archives import DAMAGED, folder_files, tar_files, zip_files
from certvae.errors import DataFault
from tests.small_data import damaged, write_folder, write_tar, write_zip

FILES = {"a/one.txt": b"one", "a/two.txt": b"two" * 100, "three.txt": b"three"}
HIDDEN = {".DS_Store": b"x", "a/.DS_Store": b"x", "__MACOSX/a/._one.txt": b"x", ".git/config": b"x"}
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
def test_refuses_names_outside(tmp_path, name):
    bad = FILES | {name: b"evil"}
    with (
        pytest.raises(DataFault, match=r"E-DATA-09: .* outside itself"),
        zip_files(write_zip(tmp_path / "a.zip", bad, "")),
    ):
        pass
    with pytest.raises(DataFault, match=r"E-DATA-09: .* outside itself"):
        tar_files(write_tar(tmp_path / "a.tar.gz", bad), FILES)
    assert not (tmp_path.parent / "up.txt").exists()


@pytest.mark.parametrize("again", ["a/one.txt", "A/One.TXT"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_refuses_one_name_twice(tmp_path, again):
    archive = write_zip(tmp_path / "a.zip", FILES, "")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(again, b"other")
    with pytest.raises(DataFault, match="one file twice"), zip_files(archive):
        pass


def test_refuses_a_link_in_a_zip(tmp_path):
    archive = write_zip(tmp_path / "a.zip", FILES, "")
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(DataFault, match="link or a device: 'link'"), zip_files(archive):
        pass


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_refuses_links_and_devices_in_a_tar(tmp_path, kind):
    archive = tmp_path / "a.tar.gz"
    member = tarfile.TarInfo("a/one.txt")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(archive, "w:gz") as opened:
        opened.addfile(member)
    with pytest.raises(DataFault, match="link or a device"):
        tar_files(archive, {"a/one.txt"})


def test_refuses_a_zip_bomb(tmp_path):
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("zeros.txt", bytes(10**6))
    with pytest.raises(DataFault, match="unpacks to over 200 times"), zip_files(archive):
        pass


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_archive_is_named(tmp_path, keep):
    for archive in (write_zip(tmp_path / "a.zip", FILES, ""), write_tar(tmp_path / "a.tar.gz", FILES)):
        content = archive.read_bytes()
        archive.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(DataFault, match=r"E-DATA-03: a\.zip"), zip_files(tmp_path / "a.zip"):
        pass
    with pytest.raises(DataFault, match=r"E-DATA-03: a\.tar\.gz"):
        tar_files(tmp_path / "a.tar.gz", FILES)


def test_a_flipped_bit_fails_the_checksum_of_a_tar(tmp_path):
    archive = write_tar(tmp_path / "a.tar.gz", FILES)
    content = bytearray(archive.read_bytes())
    content[-6] ^= 1  # in the CRC-32 that ends a gzip file, after the last byte of the tar
    archive.write_bytes(content)
    with pytest.raises(DataFault, match=r"E-DATA-03: .*CRC"):
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
