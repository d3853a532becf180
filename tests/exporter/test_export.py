from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from exporter.entries import read_entries
from exporter.errors import (
    EntriesError,
    ExportFailedError,
    ExportMismatchError,
    ExportStoppedError,
    NoRoomError,
)
from exporter.export import export
from exporter.format import formats
from exporter.samples import Samples
from exporter.signatures import TensorInfo, signature_of

TFJS = ["tfjs", "tfjs-float16", "tfjs-uint8"]
RUN = ["saved_model", "tflite", "tflite-int8", "onnx", "keras", "h5", *TFJS]


def kill_converters(how, shared):
    for child in converter_children(shared):
        child.send_signal(how)
        # Seen dead, not collected: its exit code belongs to the exporter.
        deadline = time.monotonic() + 10
        while child.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def kill_node():
    """Kill the process in which TensorFlow.js runs, as soon as there is one."""
    deadline = time.monotonic() + 30
    while not (found := [child for child in every_child() if child.name() == "node"]):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    found[0].kill()


def every_child():
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    ]


def converter_children(shared):
    """Those of exports that started one of their own."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "exporter.child" in child.cmdline() and child.pid != shared.pid]


def add_to_last_bias(model, file, change):
    """Change the last layer's bias inside an artifact, where converters leave its bytes as they are."""
    bias = model.weights[-1].numpy()
    content = file.read_bytes()
    assert content.count(bias.tobytes()) == 1
    file.write_bytes(content.replace(bias.tobytes(), (bias + np.float32(change)).tobytes()))


def test_the_artifacts_come_in_the_order_asked_with_the_saved_model_first_and_the_weights_last(exported):
    assert list(exported.artifacts) == [*RUN, "weights"]


def test_each_step_is_announced_before_it_begins(exported):
    proven = [(phase, name) for name in RUN for phase in ("exporting", "verifying")]
    assert exported.steps == [*proven, ("exporting", "weights")]


@pytest.mark.parametrize("name", ["saved_model", "tflite", "onnx", "keras", "h5", "tfjs"])
def test_a_float_artifact_answers_like_the_model_to_the_last_digits(exported, name):
    parity = exported.artifacts[name].parity
    assert parity.agrees
    # At most 1.2e-7 of the larger of 1 and the answer was seen.
    assert all(
        output.max_abs_diff <= 1e-6 * max(1, output.worst_allowed / 1e-5)
        for output in parity.outputs.values()
    )


@pytest.mark.parametrize("name", ["tflite-int8", "tfjs-uint8"])
def test_an_artifact_of_8_bits_keeps_the_task_metric(exported, name):
    parity = exported.artifacts[name].parity
    assert parity.agrees
    assert parity.max_abs_diff > 0
    rows = len(next(iter(exported.trained.held_out.features.values())))
    # 2 % of the rows, or one row where that is more.
    scored = [output.metric for output in parity.outputs.values() if output.metric]
    assert scored
    assert all(metric.delta <= max(0.02, 1 / rows) for metric in scored)


def test_an_artifact_of_16_bits_differs_in_the_third_digit(exported):
    # At most 1.1e-3 was seen, where answers go up to 10.
    assert 0 < exported.artifacts["tfjs-float16"].parity.max_abs_diff < 5e-3


def test_quantized_weights_are_smaller(exported):
    sizes = [
        sum(file.stat().st_size for file in (exported.out / exported.artifacts[name].path).glob("*.bin"))
        for name in TFJS
    ]
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_a_tensorflow_js_artifact_is_a_folder_of_a_model_and_its_weights(exported):
    folder = exported.out / exported.artifacts["tfjs-uint8"].path
    assert folder == exported.out / "assets.extra" / "tfjs-uint8"
    assert sorted(file.name for file in folder.iterdir()) == ["group1-shard1of1.bin", "model.json"]


def test_every_held_out_row_is_asked_at_three_batch_sizes_and_training_rows_where_they_are_few(exported):
    trained = exported.trained
    held_out, training = trained.held_out.rows, Samples(trained.train).rows
    for name in RUN:
        parity = exported.artifacts[name].parity
        assert (parity.rows, parity.training_rows) == (held_out + training, training)
        assert parity.batch_sizes == (1, 7, 32)
        assert parity.to_json()["training_rows"] == training


def test_an_artifact_states_its_runtime_and_how_quick_it_is(exported):
    runtimes = {name: exported.artifacts[name].runtime.split()[0] for name in RUN}
    assert runtimes == {
        "saved_model": "tensorflow",
        "tflite": "ai-edge-litert",
        "tflite-int8": "ai-edge-litert",
        "onnx": "onnxruntime",
        "keras": "keras",
        "h5": "keras",
        **dict.fromkeys(TFJS, "@tensorflow/tfjs-core"),
    }
    assert exported.artifacts["tfjs"].runtime.startswith("@tensorflow/tfjs-core 4.22.0 on node ")
    for name in RUN:
        latency = exported.artifacts[name].latency_ms
        assert sorted(latency) == [1, 64]
        assert all(0 < figures.median <= figures.p99 for figures in latency.values())


def test_every_format_loads_again_and_takes_a_batch_size_that_was_never_tried(exported):
    features = {name: array[:5] for name, array in exported.trained.held_out.features.items()}
    for name in RUN:
        artifact = exported.artifacts[name]
        with closing(formats()[artifact.format].load(exported.out / artifact.path)) as loaded:
            answers = loaded.predict(features)
        assert {len(answer) for answer in answers.values()} == {5}


def test_artifacts_describe_themselves_as_json(exported):
    document = exported.artifacts["tflite-int8"].to_json()
    assert document["path"] == "assets.extra/tflite-int8.tflite"
    assert document["options"] == {"quantization": "int8"}
    assert document["size_bytes"] == (exported.out / document["path"]).stat().st_size
    assert document["parity"]["agrees"] is True
    assert document["latency_ms"].keys() == {"1", "64"}


def test_the_weights_build_the_same_model_in_python(exported):
    import keras

    document = json.loads(exported.trained.model.to_json())
    # Not compiled, as in a version's `architecture`: what an optimizer kept isn't there.
    del document["compile_config"]
    again = keras.models.model_from_json(json.dumps(document))
    again.load_weights(exported.out / exported.artifacts["weights"].path)
    for ours, theirs in zip(exported.trained.model.weights, again.weights, strict=True):
        assert np.array_equal(ours.numpy(), theirs.numpy())


@pytest.fixture(scope="module")
def troubled(classifier, tmp_path_factory, converter):
    """An export in which artifacts are changed after they were written, and a converter crashes."""
    out = tmp_path_factory.mktemp("troubled")
    entries = [
        {"format": "onnx", "name": "onnx-off", "optional": True},
        {"format": "tflite", "name": "tflite-off", "optional": True},
        {"format": "tflite", "name": "tflite-loose", "tolerance": 0.02},
        {"format": "tfjs", "name": "node-killed", "optional": True},
        {"format": "tflite", "name": "crashing", "quantization": "int8", "optional": True},
        {"format": "onnx"},
    ]
    skipped = {}
    killer = threading.Thread(target=kill_node)

    def trouble(phase, name):
        if phase == "verifying" and name.endswith(("-off", "-loose")):
            suffix = name.split("-")[0]
            add_to_last_bias(classifier.model, out / "assets.extra" / f"{name}.{suffix}", [0.05, 0, 0])
        if (phase, name) == ("verifying", "node-killed"):
            killer.start()
        if (phase, name) == ("exporting", "crashing"):
            kill_converters(signal.SIGSEGV, converter)

    artifacts = export(
        classifier.model,
        read_entries(entries),
        held_out=classifier.held_out,
        training=Samples(classifier.train),
        out=out,
        on_step=trouble,
        on_skip=skipped.__setitem__,
    )
    killer.join()
    return SimpleNamespace(
        artifacts={artifact.name: artifact for artifact in artifacts}, skipped=skipped, out=out
    )


@pytest.mark.parametrize("name", ["onnx-off", "tflite-off"])
def test_an_artifact_that_differs_is_a_mismatch_with_its_figures(troubled, name):
    error = troubled.skipped[name]
    assert isinstance(error, ExportMismatchError)
    assert error.code == "export_mismatch"
    # A probability moves by at most a quarter of what its logit moves by.
    assert 1e-3 < error.parity.max_abs_diff < 0.05 / 4 + 1e-4
    assert f"{name!r} does not answer like the trained model: output 'output_0', row " in str(error)
    assert "allowed there 1e-05" in str(error)
    assert "accuracy" in str(error)


def test_a_tolerance_of_its_own_lets_an_artifact_differ(troubled):
    parity = troubled.artifacts["tflite-loose"].parity
    assert parity.agrees
    assert parity.max_abs_diff > 1e-3


def test_a_converter_that_crashes_fails_its_own_export_alone(troubled):
    error = troubled.skipped["crashing"]
    assert isinstance(error, ExportFailedError)
    assert error.code == "export_failed"
    assert "'crashing' failed: convert tflite: the converter process died of SIGSEGV" in str(error)
    assert troubled.artifacts["onnx"].parity.max_abs_diff < 1e-6


def test_a_runtime_that_was_killed_in_the_midst_of_a_proof_fails_its_own_export_alone(troubled):
    error = troubled.skipped["node-killed"]
    assert isinstance(error, ExportFailedError)
    assert error.code == "export_failed"
    assert "prove tfjs: RuntimeError: Command 'node' died with <Signals.SIGKILL: 9>" in str(error)


def test_what_is_optional_and_failed_is_left_out_of_the_version(troubled):
    assert list(troubled.artifacts) == ["saved_model", "tflite-loose", "onnx", "weights"]
    assert sorted(file.name for file in (troubled.out / "assets.extra").iterdir()) == [
        "model.weights.h5",
        "onnx.onnx",
        "tf_serving_warmup_requests",
        "tflite-loose.tflite",
    ]


def test_no_converter_outlives_its_export(troubled, converter):
    assert converter_children(converter) == []


def test_no_node_outlives_its_export(troubled):
    assert "node-killed" in troubled.skipped
    assert [child for child in every_child() if child.name() == "node"] == []


def test_an_input_without_a_name_is_called_like_its_data_and_an_output_as_keras_exports_it(troubled):
    signature = signature_of(troubled.out)["serving_default"]
    assert [tensor.name for tensor in signature.inputs] == ["measurements"]
    assert [tensor.name for tensor in signature.outputs] == ["output_0"]


def test_stopping_kills_the_converter_and_raises(classifier, tmp_path, converter):
    verifying = []

    with pytest.raises(ExportStoppedError, match="saved_model"):
        export(
            classifier.model,
            [],
            held_out=classifier.held_out,
            training=Samples(classifier.train),
            out=tmp_path,
            on_step=lambda phase, name: verifying.append(name) if phase == "verifying" else None,
            should_stop=lambda: bool(verifying),
        )

    assert converter_children(converter) == []


@pytest.mark.parametrize("artifact", ["saved_model", "tflite", "weights"])
def test_a_full_disk_is_told_from_a_model_that_can_not_be_exported(classifier, tmp_path, artifact, converter):
    """The former may pass: another attempt goes on from the last checkpoint and exports again."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit_files(phase, name):
        if (phase, name) == ("exporting", artifact):
            for pid in (os.getpid(), *(child.pid for child in converter_children(converter))):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (500, before[1]))

    try:
        with pytest.raises(NoRoomError, match="File too large") as caught:
            export(
                classifier.model,
                read_entries([{"format": "tflite"}]),
                held_out=classifier.held_out,
                training=Samples(classifier.train),
                out=tmp_path,
                on_step=limit_files,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (caught.value.artifact, caught.value.code) == (artifact, "disk_full")
    assert caught.value.retryable


def test_without_held_out_rows_nothing_can_be_proven(classifier, tmp_path):
    with pytest.raises(ExportFailedError, match="no held-out row"):
        export(
            classifier.model,
            [],
            held_out=Samples({"measurements": np.zeros((0, 8), np.float32)}),
            training=Samples(classifier.train),
            out=tmp_path,
        )


@pytest.mark.parametrize("exported", ["two_by_two"], indirect=True)
def test_the_signature_keeps_the_names_and_leaves_the_batch_free(exported):
    signature = signature_of(exported.out)["serving_default"]

    assert signature.inputs == (
        TensorInfo("age", "float32", (None, 2)),
        TensorInfo("size", "float32", (None, 3)),
    )
    assert signature.outputs == (
        TensorInfo("species", "float32", (None, 3)),
        TensorInfo("weight", "float32", (None, 1)),
    )


@pytest.mark.parametrize("exported", ["two_by_two"], indirect=True)
def test_the_onnx_graph_names_its_tensors_as_the_model_does_and_its_batch_batch(exported):
    import onnx

    graph = onnx.load(exported.out / exported.artifacts["onnx"].path).graph
    borders = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert borders == {
        "size": ["batch", 3],
        "age": ["batch", 2],
        "species": ["batch", 3],
        "weight": ["batch", 1],
    }


def test_artifacts_are_added_to_a_version_without_touching_it(classifier, tmp_path, converter):
    version = tmp_path / "1"
    rows = Samples(classifier.held_out.features, classifier.held_out.targets)
    training = Samples(classifier.train)
    export(classifier.model, [], held_out=rows, training=training, out=version, converter=converter)
    before = sorted(version.rglob("*"))
    entries = read_entries([{"format": "onnx"}, {"format": "keras"}])
    added = export(
        classifier.model,
        entries,
        held_out=rows,
        training=training,
        out=tmp_path / "more",
        saved_model=version,
        converter=converter,
    )
    assert [each.name for each in added] == ["onnx", "keras"]
    assert all(each.parity.agrees for each in added)
    assert sorted(version.rglob("*")) == before
    assert {path.name for path in (tmp_path / "more").rglob("*") if path.is_file()} == {
        "onnx.onnx",
        "keras.keras",
    }
    with pytest.raises(EntriesError, match="has its saved_model already"):
        export(
            classifier.model,
            read_entries([{"format": "saved_model"}]),
            held_out=rows,
            training=training,
            out=tmp_path / "no",
            saved_model=version,
        )
