from __future__ import annotations

import subprocess

import pytest

from exporter.artifact import measure


@pytest.fixture
def version(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "variables" / "variables.index").write_bytes(b"where")
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "model.onnx").write_bytes(b"another artifact")
    return tmp_path


def sha256sum(command, folder):
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


def test_a_file_has_the_digest_that_sha256sum_says(version):
    file = version / "assets.extra" / "model.onnx"
    assert measure(file) == (16, sha256sum("sha256sum assets.extra/model.onnx", version))


def test_a_folder_has_the_digest_of_its_files_digests_without_the_other_artifacts(version):
    assert measure(version) == (
        10,
        sha256sum("sha256sum saved_model.pb variables/variables.index | sha256sum", version),
    )


def test_a_folders_digest_changes_with_a_files_name(version):
    before = measure(version)[1]
    (version / "saved_model.pb").rename(version / "saved_model.pbtxt")
    assert measure(version)[1] != before
