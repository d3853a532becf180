"""TensorFlow.js: converted here, asked in node."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from exporter.endpoint import Endpoint
from exporter.entries import read_entries, refuse_infeasible
from exporter.errors import ExportFailedError
from exporter.export import export
from exporter.format import formats, missing
from exporter.formats import saved_model, tfjs
from exporter.samples import Samples
from exporter.tfjs.session import Session

if TYPE_CHECKING:
    from exporter.format import Arrays


def node_processes() -> list[psutil.Process]:
    return [
        each for each in psutil.Process().children(recursive=True) if "run.js" in " ".join(each.cmdline())
    ]


def wait_until(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def converted(model, rows: Arrays, folder: Path, **options: str) -> tuple[Arrays, Path]:
    """The model's own answers, and the folder that it was converted into."""
    endpoint = Endpoint.of(model, rows)
    saved_model.write(endpoint, folder / "1", saved_model.Options())
    tfjs.convert(folder / "1", folder / "tfjs", tfjs.Options.model_validate(options), {})
    return endpoint.predict(endpoint.bind(rows), 32), folder / "tfjs"


def differences(model, rows: Arrays, folder: Path, **options: str) -> dict[str, float]:
    """The largest difference by output."""
    expected, path = converted(model, rows, folder, **options)
    session = Session(path)
    answers = session.predict(rows)
    session.close()
    assert answers.keys() == expected.keys()
    return {name: float(np.abs(answers[name] - expected[name]).max()) for name in expected}


def test_inputs_and_outputs_of_one_shape_keep_their_names(tmp_path: Path) -> None:
    import keras

    second, first = keras.Input((3,), name="second"), keras.Input((3,), name="first")
    joined = keras.layers.Concatenate()([second, keras.layers.Rescaling(3.0)(first)])
    outputs = [keras.layers.Dense(2, name=name)(joined) for name in ("zebra", "ape")]
    rows = np.random.default_rng(5).normal(size=(2, 4, 3)).astype(np.float32)

    found = differences(
        keras.Model([second, first], outputs), dict(zip(("first", "second"), rows, strict=True)), tmp_path
    )

    assert set(found) == {"zebra", "ape"}
    assert max(found.values()) < 1e-6
    signature = json.loads((tmp_path / "tfjs" / "model.json").read_text())["signature"]
    assert {side: set(tensors) for side, tensors in signature.items()} == {
        "inputs": {"first", "second"},
        "outputs": {"zebra", "ape"},
    }


@pytest.mark.parametrize(("quantization", "allowed"), [("float16", 1e-3), ("uint8", 2e-2)])
def test_means_and_biases_of_different_scales_are_not_quantized(
    quantization: str, allowed: float, tmp_path: Path
) -> None:
    """float16 ends at 65504, and 8 bits over the range of all columns leave nothing of the small ones."""
    import keras

    keras.utils.set_random_seed(4)
    scales = np.array([1e-3, 1, 1e3, 1e6], np.float32)
    rows = {"x": np.random.default_rng(4).normal(1, size=(50, 4)).astype(np.float32) * scales}
    normalization = keras.layers.Normalization()
    normalization.adapt(rows["x"])
    layers = [normalization, keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,), name="x"), *layers])

    found = differences(model, rows, tmp_path, quantization=quantization)

    # 2.5e-4 and 6.4e-3 were seen; with everything quantized, an overflow and 1.2.
    assert found["output_0"] < allowed
    weights = json.loads((tmp_path / "tfjs" / "model.json").read_text())["weightsManifest"][0]["weights"]
    assert {(*weight["shape"],) for weight in weights if "quantization" in weight} == {(4, 8)}


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_recurrent_layer_keeps_its_loop_and_takes_any_batch(kind: str, tmp_path: Path) -> None:
    import keras

    layer = getattr(keras.layers, kind)
    model = keras.Sequential([keras.Input((5, 2), name="x"), layer(3), keras.layers.Dense(1)])
    rows = {"x": np.random.default_rng(3).normal(size=(4, 5, 2)).astype(np.float32)}
    # 1.2e-7 was seen.
    assert max(differences(model, rows, tmp_path).values()) < 1e-6


def test_a_transformer_block_with_exact_gelu_answers_like_the_model(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((6, 8), name="x")
    attended = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
    hidden = keras.layers.LayerNormalization()(keras.layers.Add()([inputs, attended]))
    widened = keras.layers.Dense(8)(keras.layers.Dense(16, activation="gelu")(hidden))
    outputs = keras.layers.LayerNormalization(name="y")(keras.layers.Add()([hidden, widened]))
    rows = {"x": np.random.default_rng(3).normal(size=(4, 6, 8)).astype(np.float32)}
    # 7.2e-7 was seen.
    assert differences(keras.Model(inputs, outputs), rows, tmp_path)["y"] < 2e-6


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_whole_numbers_are_asked_as_int32(dtype: str, tmp_path: Path) -> None:
    import keras

    model = keras.Sequential(
        [keras.Input((3,), dtype=dtype, name="x"), keras.layers.Embedding(9, 2), keras.layers.Flatten()]
    )
    rows = {"x": np.arange(6, dtype=dtype).reshape(2, 3)}
    assert differences(model, rows, tmp_path) == {"output_0": 0}


def test_weights_of_several_shards_are_put_together(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(300_000)])
    rows = {"x": np.random.default_rng(3).normal(size=(2, 4)).astype(np.float32)}
    assert differences(model, rows, tmp_path)["output_0"] < 1e-6
    assert len(list((tmp_path / "tfjs").glob("*.bin"))) == 2


def test_truth_values_go_in_and_come_out(tmp_path: Path) -> None:
    import keras

    class Not(keras.layers.Layer):
        def call(self, inputs):
            return keras.ops.logical_not(inputs)

    inputs = keras.Input((3,), dtype="bool", name="x")
    rows = {"x": np.array([[True, False, True]])}
    _, path = converted(keras.Model(inputs, Not(name="y")(inputs)), rows, tmp_path)
    loaded = tfjs.load(path)
    answer = loaded.predict(rows)["y"]
    loaded.close()
    assert answer.dtype == bool
    np.testing.assert_array_equal(answer, [[False, True, False]])


@pytest.fixture(scope="module")
def whole_numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted model that takes whole numbers."""
    import keras

    inputs = keras.Input((2,), dtype="int64", name="x")
    model = keras.Model(inputs, keras.layers.Embedding(9, 2)(inputs))
    return converted(model, {"x": np.zeros((1, 2), np.int64)}, tmp_path_factory.mktemp("numbers"))[1]


def test_a_number_beyond_int32_is_refused_and_the_next_call_answered(whole_numbers: Path) -> None:
    session = Session(whole_numbers)
    with pytest.raises(ValueError, match="'x' has a number beyond int32"):
        session.predict({"x": np.array([[1, 2**31]])})
    assert session.predict({"x": np.array([[1, 2]])})["output_0"].shape == (1, 2, 2)
    session.close()


def test_an_error_in_node_is_told_and_the_next_call_answered(whole_numbers: Path) -> None:
    session = Session(whole_numbers)
    with pytest.raises(RuntimeError, match=r"must be \[-1,2\], but was \[1,3\]"):
        session.predict({"x": np.zeros((1, 3), np.int64)})
    assert session.predict({"x": np.array([[1, 2]])})["output_0"].shape == (1, 2, 2)
    session.close()


def test_a_model_that_can_not_be_loaded_is_told_in_nodes_words(whole_numbers: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_numbers, tmp_path / "tfjs")
    (tmp_path / "tfjs" / "group1-shard1of1.bin").unlink()
    with pytest.raises(RuntimeError, match=r"(?s)exit status 1.*no such file.*group1-shard1of1\.bin"):
        tfjs.load(tmp_path / "tfjs")
    assert node_processes() == []


def test_node_ends_with_its_session(whole_numbers: Path) -> None:
    session = Session(whole_numbers)
    (node,) = node_processes()
    session.close()
    assert not node.is_running()


def test_node_ends_with_a_session_that_nobody_closed(whole_numbers: Path) -> None:
    session = Session(whole_numbers)
    (node,) = node_processes()
    del session
    assert not node.is_running()


def test_node_that_was_killed_is_told_by_its_signal(whole_numbers: Path) -> None:
    session = Session(whole_numbers)
    (node,) = node_processes()
    node.kill()
    with pytest.raises(RuntimeError, match="SIGKILL"):
        session.predict({"x": np.array([[1, 2]])})
    session.close()


def test_node_ends_when_its_parent_is_killed_and_it_stands_still(whole_numbers: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from exporter.tfjs.session import Session\n"
        "session = Session(Path(sys.argv[1]))\n"
        "print('loaded', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, whole_numbers], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"loaded\n"
        (node,) = psutil.Process(parent.pid).children()
        node.send_signal(signal.SIGSTOP)
        parent.kill()
        wait_until(lambda: not node.is_running() or node.status() == psutil.STATUS_ZOMBIE)


def test_a_model_of_strings_is_refused_with_what_to_do(tmp_path: Path) -> None:
    import keras

    texts = keras.Input((1,), dtype="string", name="texts")
    model = keras.Model(texts, keras.layers.StringLookup(vocabulary=["a"], output_mode="one_hot")(texts))
    with pytest.raises(ValueError, match=r"^texts: .* no strings here; prepare texts by the `columns`"):
        converted(model, {"texts": np.array([["a"]])}, tmp_path)


def test_an_operation_that_tensorflow_js_lacks_is_named(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((3,), name="x")
    model = keras.Model(inputs, keras.layers.Lambda(keras.ops.argmax, name="y")(inputs))
    with pytest.raises(ValueError, match=r"Unsupported Ops .*\nBitcast"):
        converted(model, {"x": np.zeros((1, 3), np.float32)}, tmp_path)


class TestWithoutNode:
    @pytest.fixture(autouse=True)
    def no_node(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))

    def test_the_format_is_infeasible_and_says_what_to_install(self) -> None:
        assert missing(formats()["tfjs"]) == ("node (install Node.js 18 or newer)",)

    def test_an_export_is_refused_before_anything_is_computed(self) -> None:
        with pytest.raises(ExportFailedError, match=r"'tfjs' failed: .* can't be made here without node \("):
            refuse_infeasible(read_entries([{"format": "onnx"}, {"format": "tfjs"}]))

    @pytest.mark.full
    def test_an_optional_export_is_left_out(self, classifier, tmp_path: Path) -> None:
        skipped: dict[str, Exception] = {}
        artifacts = export(
            classifier.model,
            read_entries([{"format": "tfjs", "optional": True}]),
            held_out=classifier.held_out,
            training=Samples(classifier.train),
            out=tmp_path,
            on_skip=skipped.__setitem__,
        )
        assert [artifact.name for artifact in artifacts] == ["saved_model", "weights"]
        assert "without node (install Node.js 18 or newer)" in str(skipped["tfjs"])


def test_without_its_folder_the_format_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tfjs, "FOLDER", tmp_path / "tfjs")
    monkeypatch.setattr(tfjs, "CONVERTER", tmp_path / "tfjs" / "python")
    assert missing(formats()["tfjs"]) == (
        f"tensorflowjs in {tmp_path}/tfjs/python (`make install` brings it where npm is)",
        f"@tensorflow/tfjs-core in {tmp_path}/tfjs (`make install` brings it where npm is)",
    )


def test_the_locked_packages_have_hashes_and_name_no_registry() -> None:
    locks = Path(__file__).parents[2] / "deploy" / "locks"
    npm = json.loads((locks / "tfjs" / "package-lock.json").read_text())["packages"]
    ours = npm.pop("")
    assert ours["dependencies"] == json.loads((locks / "tfjs" / "package.json").read_text())["dependencies"]
    assert npm
    assert all(package["integrity"].startswith("sha512-") for package in npm.values())
    assert not any("resolved" in package for package in npm.values())
    assert "--hash=sha256:" in (locks / "tfjs.txt").read_text()
    assert "://" not in (locks / "tfjs.txt").read_text()
