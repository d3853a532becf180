"""The SavedModel's signatures beside `serving_default`, asked as TensorFlow Serving asks them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

from exporter import examples
from exporter.endpoint import Endpoint
from exporter.entries import read_entries
from exporter.errors import ExportFailedError, ExportMismatchError
from exporter.export import export
from exporter.formats import saved_model
from exporter.further_signatures import further_signatures
from exporter.samples import Samples
from exporter.signatures import TensorInfo, signature_of
from service.exporting import decode_images
from serving import warmup

ALL = ["classify", "regress", "image_bytes"]
SIDES = ["right", "left"]


def dense(units, activation=None, loss=None, shape=(4,)):
    """An untrained model, compiled where there is a loss."""
    import keras

    model = keras.Sequential(
        [
            keras.Input(shape, name="x"),
            keras.layers.Flatten(),
            keras.layers.Dense(units, activation, name="y"),
        ]
    )
    if loss is not None:
        model.compile("adam", loss)
    return model


def endpoint_of(model, shape=(4,), **known):
    return Endpoint.of(model, {"x": np.zeros((2, *shape), np.float32)}, **known)


@pytest.fixture(scope="module")
def images():
    """Is the left half the brighter? Pixels as a folder of images has them, scaled in the model."""
    import keras

    keras.utils.set_random_seed(8)
    x = np.random.default_rng(8).integers(0, 256, size=(150, 8, 6, 3)).astype(np.float32)
    y = (x[:, :, :3].mean(axis=(1, 2, 3)) > x[:, :, 3:].mean(axis=(1, 2, 3))).astype(np.int64)
    model = keras.Sequential(
        [
            keras.Input((8, 6, 3), name="image"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(1, activation="sigmoid", name="bright_left"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    model.fit(x[:100], y[:100], epochs=2, verbose=0)
    return model, x, y


def exported(images, out, converter, on_step=None, pixels=None, decode=decode_images, **options):
    model, x, y = images
    x = x if pixels is None else pixels
    return export(
        model,
        read_entries([{"format": "saved_model", **options}, {"format": "tflite"}, {"format": "onnx"}]),
        held_out=Samples({"image": x[100:]}, y[100:]),
        training=Samples({"image": x[:100]}),
        out=out,
        class_names=SIDES,
        decode_images=decode,
        timed=False,
        on_step=on_step,
        converter=converter,
    )


@pytest.fixture(scope="module")
def version(images, tmp_path_factory, converter):
    out = tmp_path_factory.mktemp("version")
    # Which no PNG holds: they are rounded for its proof alone.
    fractions = np.clip(images[1] + 0.25, 0, 255)
    artifacts = exported(images, out, converter, pixels=fractions, signatures=ALL)
    return out, {each.name: each for each in artifacts}


@pytest.fixture(scope="module")
def loaded(version):
    return tf.saved_model.load(str(version[0]))


def ask(loaded, signature, **strings):
    tensors = {name: tf.constant(values) for name, values in strings.items()}
    return {name: tensor.numpy() for name, tensor in loaded.signatures[signature](**tensors).items()}


def test_every_signature_is_in_the_file_with_its_names(version):
    found = signature_of(version[0])
    assert sorted(found) == ["classify", "image_bytes", "regress", "serving_default"]
    assert {name: each.inputs for name, each in found.items() if name != "serving_default"} == {
        "classify": (TensorInfo("inputs", "string", (None,)),),
        "regress": (TensorInfo("inputs", "string", (None,)),),
        "image_bytes": (TensorInfo("image_bytes", "string", (None,)),),
    }
    assert found["classify"].outputs == (
        TensorInfo("classes", "string", (None, 2)),
        TensorInfo("scores", "float32", (None, 2)),
    )
    assert found["regress"].outputs == (TensorInfo("outputs", "float32", (None,)),)
    assert found["image_bytes"].outputs == found["serving_default"].outputs


def test_the_file_says_which_call_of_tensorflow_serving_asks_a_signature(version, tmp_path):
    content = (version[0] / "saved_model.pb").read_bytes()
    (graph,) = SavedModel.FromString(content).meta_graphs
    methods = {name: each.method_name for name, each in graph.signature_def.items() if name[0] != "_"}
    assert methods == {
        "serving_default": "tensorflow/serving/predict",
        "image_bytes": "tensorflow/serving/predict",
        "classify": "tensorflow/serving/classify",
        "regress": "tensorflow/serving/regress",
    }
    valid = tf.compat.v1.saved_model.signature_def_utils.is_valid_signature
    assert all(valid(graph.signature_def[name]) for name in methods)
    # TensorFlow's fingerprint is of this file, and not of the one before the methods were named.
    (tmp_path / "saved_model.pb").write_bytes(content)
    write_fingerprint(str(tmp_path))
    ours, again = (tf.saved_model.experimental.read_fingerprint(str(each)) for each in (version[0], tmp_path))
    assert ours.saved_model_checksum == again.saved_model_checksum


def test_the_recipe_and_the_options_say_what_is_offered(version):
    artifact = version[1]["saved_model"]
    assert "classify, regress, image_bytes" in artifact.recipe
    assert artifact.options == {"signatures": ALL}


def test_other_formats_are_made_of_the_model_alone(version):
    for name in ("tflite", "onnx"):
        assert version[1][name].parity.max_abs_diff < 1e-6


def test_a_sigmoid_unit_gives_two_classes_by_their_names_and_one_number(images, loaded):
    model, x, _ = images
    p = model.predict(x[:5], verbose=0)[:, 0]
    sent = examples.serialize({"image": x[:5]}, gaps=False)
    answer = ask(loaded, "classify", inputs=sent)
    assert answer["classes"].tolist() == [[b"right", b"left"]] * 5
    np.testing.assert_allclose(answer["scores"], np.stack([1 - p, p], axis=1), atol=1e-6)
    np.testing.assert_allclose(ask(loaded, "regress", inputs=sent)["outputs"], p, atol=1e-6)


@pytest.mark.parametrize("encode", [tf.io.encode_png, tf.io.encode_jpeg])
def test_images_of_any_size_are_answered_as_a_column_of_images_would_be(images, loaded, encode):
    large = np.random.default_rng(1).integers(0, 256, size=(40, 23, 3)).astype(np.uint8)
    file = encode(large).numpy()
    pixels = decode_images(tf.constant([file]), 8, 6, 3).numpy()
    assert pixels.dtype == np.uint8
    expected = images[0].predict(pixels.astype(np.float32), verbose=0)
    answer = ask(loaded, "image_bytes", image_bytes=[file, file])["bright_left"]
    np.testing.assert_allclose(answer, np.repeat(expected, 2, axis=0), atol=1e-6)


def test_every_signature_is_warmed(version):
    names = [each.predict_log.request.model_spec.signature_name for each in warmup.records(version[0])]
    assert names == [name for name in ("serving_default", *ALL) for _ in (1, 32)]


def test_an_answer_that_differs_is_told_with_its_signature(images, tmp_path, converter):
    def rename_a_class(phase, name):
        if (phase, name) == ("verifying", "saved_model"):
            file = tmp_path / "saved_model.pb"
            file.write_bytes(file.read_bytes().replace(b"right", b"wrong"))

    with pytest.raises(ExportMismatchError, match="output 'classify/classes', row 0"):
        exported(images, tmp_path, converter, signatures=["classify"], on_step=rename_a_class)


@pytest.mark.full
def test_pixels_that_are_read_otherwise_are_told(images, tmp_path, converter):
    def upside_down(*how):
        return tf.reverse(decode_images(*how), [1])

    with pytest.raises(ExportMismatchError, match="output 'image_bytes/bright_left'"):
        exported(images, tmp_path, converter, signatures=["image_bytes"], decode=upside_down)


def test_pixels_that_are_not_whole_are_rounded_for_the_proof(images):
    signature = further_signatures(
        Endpoint.of(images[0], {"image": images[1]}, decode_images=decode_images), ["image_bytes"]
    )["image_bytes"]
    whole = {"image": images[1][:3]}
    assert signature.carried(whole)["image"] is whole["image"]
    near = signature.carried({"image": np.clip(whole["image"] + 0.25, 0, 255)})
    assert np.array_equal(near["image"], whole["image"])
    assert [tf.io.decode_png(file).numpy().tolist() for file in signature.sent(whole)] == whole[
        "image"
    ].tolist()


@pytest.mark.parametrize(
    ("scale", "told"), [(1 / 255, "from 0 to 1"), (-1, "from -255 to .*"), (2, "to 510")]
)
def test_data_that_are_no_pixels_from_0_to_255_are_refused(images, scale, told):
    signature = further_signatures(
        Endpoint.of(images[0], {"image": images[1]}, decode_images=decode_images), ["image_bytes"]
    )["image_bytes"]
    with pytest.raises(ExportFailedError, match=f"{told}; train on pixels from 0 to 255"):
        signature.carried({"image": images[1] * np.float32(scale)})


def test_inputs_of_all_dtypes_come_out_of_examples_and_logits_become_probabilities(tmp_path):
    import keras

    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    rows = {
        "whole": random.integers(-9, 9, (60, 2)).astype(np.int32),
        "wide": random.normal(size=(60, 1)),  # float64, which no float32 holds
        "truth": random.integers(0, 2, (60, 1)).astype(bool),
        "city": random.choice(["Oslo", "Łódź", ""], (60, 1)),
        "table": random.normal(size=(60, 2, 3)).astype(np.float32),
    }
    inputs = {
        name: keras.Input(array.shape[1:], dtype="string" if name == "city" else str(array.dtype), name=name)
        for name, array in rows.items()
    }
    city = keras.layers.StringLookup(vocabulary=["Oslo", "Łódź"], output_mode="one_hot")(inputs["city"])
    numbers = [keras.ops.cast(inputs[name], "float32") for name in ("whole", "wide", "truth")]
    joined = keras.layers.Concatenate()([*numbers, keras.layers.Flatten()(inputs["table"]), city])
    model = keras.Model(inputs, keras.layers.Dense(3)(joined))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    endpoint = Endpoint.of(model, rows, class_names=["a", "b"])
    saved_model.write(endpoint, tmp_path, saved_model.Options(signatures=("classify",)))
    signature = further_signatures(endpoint, ["classify"])["classify"]
    bound = endpoint.bind(rows)
    carried = signature.carried(bound)
    assert [name for name in bound if carried[name] is not bound[name]] == ["wide"]
    answer = ask(tf.saved_model.load(str(tmp_path)), "classify", inputs=signature.sent(carried))
    assert answer["classes"][0].tolist() == [b"a", b"b", b"2"]
    logits = model.predict({**rows, "city": tf.constant(rows["city"])}, verbose=0)
    np.testing.assert_allclose(answer["scores"], tf.nn.softmax(logits), atol=1e-5)
    expected = signature.expected(endpoint.predict_request(carried, 32))
    np.testing.assert_allclose(answer["scores"], expected["scores"], atol=1e-6)


def test_an_example_may_lack_what_a_prepared_column_may():
    import tensorflow as tf

    columns = {"age": np.array([math.nan, 3], np.float32), "city": np.array(["", "Oslo"], object)}
    sent = examples.serialize(columns, gaps=True)
    assert [sorted(tf.train.Example.FromString(each).features.feature) for each in sent] == [
        [],
        ["age", "city"],
    ]
    specs = [tf.TensorSpec((None,), tf.float32, "age"), tf.TensorSpec((None,), tf.string, "city")]
    age, city = examples.parse(tf.constant(sent), specs, gaps=True)
    assert np.array_equal(age, columns["age"], equal_nan=True)
    assert city.numpy().tolist() == [b"", b"Oslo"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"age .* is required"):
        examples.parse(tf.constant(sent), specs, gaps=False)


LOGITS = "BinaryCrossentropy"


@pytest.mark.parametrize(
    ("units", "loss", "answers", "scores"),
    [
        (1, None, [[0.25]], [[0.75, 0.25]]),
        (1, LOGITS, [[-800.0]], [[1, 0]]),
        (2, LOGITS, [[0.0, 800.0]], [[0.5, 1]]),
        (2, None, [[0.1, 0.9]], [[0.1, 0.9]]),
    ],
)
def test_scores_are_probabilities(units, loss, answers, scores):
    import keras

    model = dense(units, loss=loss and getattr(keras.losses, loss)(from_logits=True))
    signature = further_signatures(endpoint_of(model), ["classify"])["classify"]
    told = signature.expected({"y": np.array(answers, np.float32)})
    np.testing.assert_allclose(told["scores"], scores, atol=1e-7)
    assert told["classes"].tolist() == [["0", "1"]]
    model.layers[-1].set_weights([np.zeros((4, units)), np.array(answers[0])])
    sent = tf.constant(examples.serialize({"x": np.zeros((1, 4), np.float32)}, gaps=False))
    np.testing.assert_allclose(signature.serve(sent)["scores"], scores, atol=1e-7)


def test_a_single_unit_that_gives_no_probability_is_refused():
    signature = further_signatures(endpoint_of(dense(1, loss="binary_crossentropy")), ["classify"])[
        "classify"
    ]
    with pytest.raises(ExportFailedError, match=r"gives -0\.5 to 3; end the model in a sigmoid"):
        signature.expected({"y": np.array([[-0.5], [3]], np.float32)})


@pytest.mark.parametrize(
    ("name", "model", "why"),
    [
        (
            "classify",
            {"units": 3, "loss": "mse"},
            "is for classes, and the model's loss is mean_squared_error",
        ),
        ("classify", {"units": 3, "loss": "Huber"}, "the model's loss is huber"),
        (
            "classify",
            {"units": 3, "class_names": list("abcd")},
            "the label has 4 classes, the output 3 scores",
        ),
        ("classify", {"units": 3, "shape": (None, 2)}, r"takes tf.Examples: 'x' has the shape \(None, 2\)"),
        ("regress", {"units": 2}, "is for a model with one output, of one number; this one's has 2"),
        ("image_bytes", {"units": 2}, r"one image input .*; this one takes x float32 \(4,\)"),
        ("image_bytes", {"units": 2, "shape": (4, 4, 2)}, r"this one takes x float32 \(4, 4, 2\)"),
        ("image_bytes", {"units": 2, "shape": (4, 4, 3)}, "needs `decode_images`"),
    ],
)
def test_a_signature_that_is_not_for_such_a_model_is_refused(name, model, why):
    import keras

    known = {"class_names": model.pop("class_names", None)}
    shape = model.get("shape", (4,))
    if None in shape:
        x = keras.Input(shape, name="x")
        made = keras.Model(x, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(x)))
        shape = (5, *shape[1:])
    else:
        made = dense(**model)
    with pytest.raises(ExportFailedError, match=f"'{name}' .*{why}") as caught:
        further_signatures(endpoint_of(made, shape, **known), [name])
    assert caught.value.artifact == "saved_model"


@pytest.mark.parametrize("name", ["classify", "regress"])
def test_several_outputs_are_refused(two_by_two, name):
    endpoint = Endpoint.of(two_by_two.model, two_by_two.train)
    with pytest.raises(
        ExportFailedError, match=r"one output.*gives species float32 \(3,\), weight float32 \(1,\)"
    ):
        further_signatures(endpoint, [name])


def test_columns_that_take_files_already_are_refused(images):
    class Files:
        def signature(self):
            return [tf.TensorSpec((None,), tf.string, "photo")]

    endpoint = replace(Endpoint.of(images[0], {"image": images[1]}), preparation=Files())
    with pytest.raises(ExportFailedError, match=r"takes strings already: photo string \(\); leave it out"):
        further_signatures(endpoint, ["image_bytes"])


def test_a_refusal_is_told_as_it_is(classifier, tmp_path):
    with pytest.raises(ExportFailedError, match=r"^export 'saved_model' failed: signature 'regress' is for"):
        export(
            classifier.model,
            read_entries([{"format": "saved_model", "signatures": ["regress"]}]),
            held_out=classifier.held_out,
            training=Samples(classifier.train),
            out=tmp_path,
        )
