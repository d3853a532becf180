import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from google.protobuf import text_format

from serving import store as store_module
from serving.errors import ManifestError, StoreError
from serving.manifest import Manifest
from serving.store import ServedModel, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "models")


def fill(staging: Path, content: bytes = b"graph") -> None:
    (staging / "saved_model.pb").write_bytes(content)
    (staging / "variables").mkdir()
    (staging / "variables" / "variables.index").write_bytes(b"index" * 100)
    (staging / "assets.extra").mkdir()
    (staging / "assets.extra" / "model.tflite").write_bytes(b"flat")


def manifest(job_id: str = "job-1") -> Manifest:
    return Manifest(
        model="digits",
        job_id=job_id,
        spec_digest="abc",
        metrics={"accuracy": 0.5},
        artifacts=[
            {"name": "saved_model", "format": "saved_model", "path": "."},
            {
                "name": "tflite",
                "format": "tflite",
                "path": "assets.extra/model.tflite",
                "parity": {"max": 1e-7},
            },
        ],
    )


def published(store: Store, number: int, job_id: str = "job-1", token: int = 1) -> Path:
    staging = store.stage("digits", job_id, token)
    fill(staging)
    store.seal(staging, manifest(job_id))
    return store.publish("digits", job_id, token, number)


def test_a_sealed_version_is_published_whole_under_its_number(store):
    version = published(store, 3)

    assert version == store.root / "digits" / "3"
    assert store.versions("digits") == [3]
    assert store.verify("digits", 3) == []
    assert not list(version.parent.glob(".staging-*"))


def test_the_manifest_comes_back_as_it_was_sealed(store):
    staging = store.stage("digits", "job-1", 1)
    fill(staging)
    sealed = store.seal(staging, manifest())
    store.publish("digits", "job-1", 1, 1)

    assert store.manifest("digits", 1) == sealed
    assert sealed.artifacts[1]["parity"] == {"max": 1e-7}
    assert sealed.artifacts[1]["size_bytes"] == 4
    assert set(sealed.files) == {"saved_model.pb", "variables/variables.index", "assets.extra/model.tflite"}


def test_publishing_again_returns_the_version_that_the_job_holds(store):
    first = published(store, 1)

    assert store.publish("digits", "job-1", 1, 1) == first
    assert store.publish("digits", "job-1", 2, 1) == first


def test_a_number_that_another_job_holds_is_refused(store):
    published(store, 1)
    staging = store.stage("digits", "job-2", 1)
    fill(staging)
    store.seal(staging, manifest("job-2"))

    with pytest.raises(StoreError, match="belongs to job job-1"):
        store.publish("digits", "job-2", 1, 1)
    assert store.manifest("digits", 1).job_id == "job-1"


def test_an_empty_version_folder_is_never_taken_for_a_free_number(store):
    (store.root / "digits" / "1").mkdir(parents=True)

    with pytest.raises(ManifestError):
        published(store, 1)


def test_a_staging_folder_that_was_not_sealed_is_not_published(store):
    fill(store.stage("digits", "job-1", 1))

    with pytest.raises(StoreError, match="not sealed"):
        store.publish("digits", "job-1", 1, 1)


def test_a_staging_folder_that_changed_after_sealing_is_not_published(store):
    staging = store.stage("digits", "job-1", 1)
    fill(staging)
    store.seal(staging, manifest())
    (staging / "saved_model.pb").write_bytes(b"longer than before")

    with pytest.raises(StoreError, match="changed after it was sealed"):
        store.publish("digits", "job-1", 1, 1)


def test_a_folder_without_a_saved_model_is_not_sealed(store):
    with pytest.raises(StoreError, match=r"no saved_model\.pb"):
        store.seal(store.stage("digits", "job-1", 1), manifest())


def test_a_link_in_a_version_is_refused(store):
    staging = store.stage("digits", "job-1", 1)
    fill(staging)
    (staging / "link").symlink_to("/etc/passwd")

    with pytest.raises(StoreError, match="plain files"):
        store.seal(staging, manifest())


def test_staging_again_starts_from_an_empty_folder(store):
    fill(store.stage("digits", "job-1", 1))

    assert list(store.stage("digits", "job-1", 1).iterdir()) == []


def test_collecting_removes_the_folders_of_that_job_alone(store):
    mine = [store.stage("digits", "job-1", token) for token in (1, 2)]
    other = store.stage("digits", "job-1-1", 3)

    assert store.collect("digits", "job-1") == mine
    assert other.exists()


def test_a_version_that_is_removed_between_the_last_look_and_the_rename_is_not_published(store, monkeypatch):
    """Its worker was frozen there, lost the job, and thaws while another one clears away."""
    staging = store.stage("digits", "job-1", 1)
    fill(staging)
    store.seal(staging, manifest())
    look = store_module._check_sealed

    def look_and_freeze(*what):
        look(*what)
        store.collect("digits", "job-1")

    monkeypatch.setattr(store_module, "_check_sealed", look_and_freeze)
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: (path / "saved_model.pb").unlink())
    with pytest.raises(StoreError, match="could not get its number"):
        store.publish("digits", "job-1", 1, 1)
    assert not (store.root / "digits" / "1").exists()

    monkeypatch.undo()
    assert store.staged() == [("digits", "job-1")]
    store.collect("digits", "job-1")
    assert store.staged() == []


def test_all_of_a_version_is_on_the_disk_before_it_has_its_number_and_the_number_before_the_answer(
    store, monkeypatch
):
    """A power cut must leave no number with half a version, and no answer without its number."""
    done = []
    fsync, rename = os.fsync, Path.rename

    def note_fsync(descriptor):
        fsync(descriptor)
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    def note_rename(path, target):
        done.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    staging = store.stage("digits", "job-1", 1)
    fill(staging)
    store.seal(staging, manifest())
    version = store.publish("digits", "job-1", 1, 1)

    named = done.index("rename")
    content = {staging, *(staging / path.relative_to(version) for path in version.rglob("*"))}
    assert content <= set(done[:named])
    assert {version.parent, store.root} <= set(done[named:])


def test_verify_names_the_files_that_changed_went_or_came(store):
    version = published(store, 1)
    (version / "saved_model.pb").write_bytes(b"other")
    (version / "variables" / "variables.index").unlink()
    (version / "new").write_bytes(b"")

    assert store.verify("digits", 1) == ["new", "saved_model.pb", "variables/variables.index"]


def test_a_poller_never_sees_half_a_version(store):
    done, broken = threading.Event(), []

    def poll() -> None:
        while not done.is_set():
            broken.extend(number for number in store.versions("digits") if store.verify("digits", number))

    poller = threading.Thread(target=poll)
    poller.start()
    for number in range(1, 31):
        published(store, number, job_id=f"job-{number}")
    done.set()
    poller.join()

    assert broken == []
    assert store.versions("digits") == list(range(1, 31))


@pytest.mark.parametrize("name", ["../digits", "a/b", "", ".hidden", "Digits", "a" * 64, "digits\n"])
def test_a_model_name_that_could_leave_the_store_is_refused(store, name):
    with pytest.raises(StoreError, match="a model's name"):
        store.stage(name, "job-1", 1)


@pytest.mark.parametrize("job_id", ["../x", "a/b", ""])
def test_a_job_id_that_could_leave_the_store_is_refused(store, job_id):
    with pytest.raises(StoreError, match="a job's id"):
        store.stage("digits", job_id, 1)


def test_an_artifact_path_that_leaves_the_version_is_refused(store):
    staging = store.stage("digits", "job-1", 1)
    fill(staging)
    outside = Manifest(model="digits", job_id="job-1", artifacts=[{"name": "x", "path": "../../secret"}])

    with pytest.raises(StoreError, match="leads out"):
        store.seal(staging, outside)


def test_an_artifact_is_found_by_its_name(store):
    version = published(store, 1)

    assert store.artifact("digits", 1, "tflite") == version / "assets.extra/model.tflite"
    assert store.artifact("digits", 1, "saved_model") == version
    with pytest.raises(StoreError, match="saved_model, tflite"):
        store.artifact("digits", 1, "onnx")


def test_an_unknown_version_is_answered_with_the_known_ones(store):
    published(store, 2)

    with pytest.raises(StoreError, match="digits has the versions 2"):
        store.manifest("digits", 1)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 99}', "null"])
def test_what_is_not_a_manifest_is_refused(text):
    with pytest.raises(ManifestError):
        Manifest.from_json(text)


def test_models_config_is_what_tensorflow_serving_reads(store):
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    path = store.write_models_config(
        {"digits": ServedModel(frozenset({3, 1}), {"stable": 1}), "iris": ServedModel()}
    )

    digits, iris = text_format.Parse(path.read_text(), ModelServerConfig()).model_config_list.config
    assert digits.base_path == str(store.root / "digits")
    assert list(digits.model_version_policy.specific.versions) == [1, 3]
    assert dict(digits.version_labels) == {"stable": 1}
    assert (iris.name, iris.model_platform) == ("iris", "tensorflow")
    assert iris.model_version_policy.latest.num_versions == 1


def test_an_empty_models_config_is_a_list_of_no_models(store):
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    config = text_format.Parse(store.write_models_config({}).read_text(), ModelServerConfig())

    assert config.WhichOneof("config") == "model_config_list"
    assert not config.model_config_list.config


def test_models_config_can_name_the_folders_as_a_container_sees_them(store):
    path = store.write_models_config({"digits": ServedModel()}, served_root=Path("/models"))

    assert 'base_path: "/models/digits"' in path.read_text()


def test_the_store_needs_no_tensorflow():
    code = "import serving.store, sys; assert not {'tensorflow', 'google', 'grpc'} & set(sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True)


def added(store: Store, job_id: str, name: str = "onnx") -> list:
    """What a job stages and then adds to version 1."""
    staging = store.stage("digits", job_id, 1)
    (staging / "assets.extra").mkdir()
    (staging / "assets.extra" / f"{name}.onnx").write_bytes(b"graph of another kind")
    artifact = {"name": name, "format": "onnx", "path": f"assets.extra/{name}.onnx"}
    store.seal_additions(staging, job_id, [artifact])
    return store.add("digits", 1, job_id, 1, [name])


def test_an_artifact_is_added_beside_a_version_which_stays_as_it_is(store):
    version = published(store, 1)
    (record,) = added(store, "job-2")
    assert (record["name"], record["job_id"], record["size_bytes"]) == ("onnx", "job-2", 21)
    assert store.verify("digits", 1) == []
    path = store.artifact("digits", 1, "onnx")
    assert path.read_bytes() == b"graph of another kind"
    assert not path.is_relative_to(version)
    assert store.versions("digits") == [1]


def test_adding_again_finds_what_the_job_has_added_and_nothing_of_another_job_is_replaced(store):
    published(store, 1)
    first = added(store, "job-2")
    store.collect("digits", "job-2")
    assert store.add("digits", 1, "job-2", 2, ["onnx"]) == first  # by the attempt after a crash
    with pytest.raises(StoreError, match=r"has an artifact 'onnx' of job job-2\. Received: job job-3"):
        added(store, "job-3")


def test_an_artifact_that_is_nowhere_is_not_added(store):
    published(store, 1)
    with pytest.raises(StoreError, match="'onnx' of digits could not be added"):
        store.add("digits", 1, "job-2", 1, ["onnx"])
    with pytest.raises(StoreError, match="has the versions 1"):
        store.add("digits", 2, "job-2", 1, ["onnx"])


def test_an_unknown_artifact_is_answered_with_those_that_were_added_too(store):
    published(store, 1)
    added(store, "job-2")
    with pytest.raises(StoreError, match="has the artifacts saved_model, tflite, onnx"):
        store.artifact("digits", 1, "keras")
