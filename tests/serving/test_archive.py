import hashlib
import io
import os
import tarfile

import pytest

from serving import archive


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "b" / "deep" / "x.bin").write_bytes(bytes(range(256)) * 7)
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / ("long-" * 30)).write_text("a name that a plain tar header can't hold")
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "weights").write_text("not part of it")
    return tmp_path


def test_a_packed_folder_unpacks_to_the_same_files(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("unpacked")

    with tarfile.open(fileobj=io.BytesIO(b"".join(archive.pack(folder)))) as tar:
        tar.extractall(target, filter="data")

    assert (target / "b/deep/x.bin").read_bytes() == (folder / "b/deep/x.bin").read_bytes()
    assert sorted(path.name for path in target.iterdir()) == ["a.txt", "b", "long-" * 30]


def test_times_and_modes_of_the_files_do_not_change_the_tar(folder):
    before = b"".join(archive.pack(folder))
    (folder / "a.txt").chmod(0o600)
    os.utime(folder / "a.txt", (1, 1))

    assert b"".join(archive.pack(folder)) == before


def test_the_digest_is_that_of_the_download(folder):
    content = b"".join(archive.pack(folder))

    assert archive.digest(folder) == (hashlib.sha256(content).hexdigest(), len(content))
    assert archive.digest(folder / "a.txt") == (hashlib.sha256(b"first").hexdigest(), 5)


def test_a_tar_may_begin_at_any_byte(folder):
    whole = b"".join(archive.pack(folder))

    for start in (0, 1, 511, 512, 513, 1100, 3000, len(whole) - 1, len(whole)):
        assert b"".join(archive.pack(folder, start=start)) == whole[start:], start
