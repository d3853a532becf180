"""Write the SavedModels that the tests serve into the folder given, with answers.npz beside them.

`sum/1` and `sum/2` are plain modules with two signatures whose answers tell the version; `dense` is a Keras
export; `text` takes and gives strings; `slow` takes half a second; `version_1_graph` is of TensorFlow 1,
and so is `judge`, whose signatures take serialized Examples; `echo` gives back tensors of every type;
`lite` holds models of TensorFlow Lite; `apart` has signatures that may and may not share a call.
"""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.schema_py_generated import BufferT, MetadataT
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffers import flexbuffers
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from serving.tensors import DTYPES, name_of


class Sum(tf.Module):
    def __init__(self, version):
        super().__init__()
        self.version = tf.Variable(float(version))

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 3), tf.float32, name="a"),
            tf.TensorSpec((None, 3), tf.float32, name="b"),
        ]
    )
    def total(self, a, b):
        version = tf.fill((tf.shape(a)[0],), self.version)
        return {"y": a + b, "version": version}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64, name="x")])
    def double(self, x):
        return {"doubled": x * 2}


class Text(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="words")])
    def shout(self, words):
        return {"upper": tf.strings.upper(words), "raw_bytes": words}


class Slow(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    def wait(self, x):
        # A loop that only ends late: py_function wouldn't survive the export.
        count = tf.while_loop(
            lambda i, _: i < 6000, lambda i, m: (i + 1, tf.linalg.matmul(m, m) * 1e-3), (0, tf.eye(200))
        )
        return {"y": x + tf.cast(count[0], tf.float32) * 0 + tf.reduce_sum(count[1]) * 0}


class Apart(tf.Module):
    """Signatures that may share a call (`square`), and those that may not, each for a reason of its own."""

    def __init__(self):
        super().__init__()
        self.calls = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.float32, name="x")])
    def square(self, x):
        tf.debugging.assert_non_negative(x)
        return {"y": x * x}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    def count(self, x):
        return {"y": x * 0 + self.calls.assign_add(1.0)}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    def noise(self, x):
        return {"y": x + tf.random.uniform(tf.shape(x))}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    def centre(self, x):
        return {"y": x - tf.reduce_mean(x)}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, name="x")])
    def total(self, x):
        return {"y": tf.reduce_sum(x)}


def save_version_1_graph(folder: Path) -> None:
    """Write a SavedModel as TensorFlow 1 made them: a graph, a variable, and a table's asset file."""
    vocabulary = folder.parent / "vocabulary.txt"
    vocabulary.write_text("zero\none\ntwo\n")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        words = tf.compat.v1.placeholder(tf.string, (None,), name="words")
        offset = tf.compat.v1.get_variable(
            "offset", initializer=tf.constant(10, tf.int64), use_resource=False
        )
        asset = tf.constant(str(vocabulary))
        tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS, asset)
        initializer = tf.lookup.TextFileInitializer(
            asset,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        table = tf.lookup.StaticHashTable(initializer, -1)
        session.run([offset.initializer, tf.compat.v1.tables_initializer()])
        builder = tf.compat.v1.saved_model.Builder(str(folder))
        signature = tf.compat.v1.saved_model.predict_signature_def(
            {"words": words}, {"ids": table.lookup(words) + offset, "constant": tf.constant([1.5])}
        )
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            assets_collection=tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS),
            main_op=tf.compat.v1.tables_initializer(),
        )
        builder.save()


def save_judge(folder: Path) -> None:
    """Write a SavedModel with signatures to classify and regress by, right and wrong ones, over one input."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        examples = tf.compat.v1.placeholder(tf.string, (None,), name="examples")
        features = tf.io.parse_example(
            examples,
            {
                "x": tf.io.FixedLenFeature((2,), tf.float32),
                "n": tf.io.FixedLenFeature((), tf.int64, 0),
                "word": tf.io.FixedLenFeature((), tf.string, "none"),
            },
        )
        scores = features["x"] + tf.cast(features["n"], tf.float32)[:, None]
        classes = tf.stack([features["word"], tf.fill(tf.shape(features["word"]), "other")], axis=1)
        total = tf.reduce_sum(scores, axis=1)
        other = tf.compat.v1.placeholder(tf.string, (None,), name="other")

        def signature(method, outputs, inputs=None):
            tensors = [
                {name: tf.compat.v1.saved_model.build_tensor_info(tensor) for name, tensor in named.items()}
                for named in (inputs or {"inputs": examples}, outputs)
            ]
            return tf.compat.v1.saved_model.build_signature_def(*tensors, f"tensorflow/serving/{method}")

        signatures = {
            "serving_default": signature("classify", {"classes": classes, "scores": scores}),
            "regress": signature("regress", {"outputs": total}),
            "column": signature("regress", {"outputs": total[:, None]}),
            "classes_only": signature("classify", {"classes": classes}),
            "scores_only": signature("classify", {"scores": scores}),
            "native": signature("predict", {"scores": scores}),
            "flat": signature("classify", {"scores": total}),
            "doubles": signature("classify", {"scores": tf.cast(scores, tf.float64)}),
            "words": signature("classify", {"classes": scores}),
            "uneven": signature("classify", {"classes": classes, "scores": scores[:, :1]}),
            "short": signature("classify", {"scores": scores[1:]}),
            "short_regress": signature("regress", {"outputs": total[1:]}),
            "wide": signature("regress", {"outputs": scores}),
            "double_regress": signature("regress", {"outputs": tf.cast(total, tf.float64)}),
            "odd_input": signature("classify", {"scores": scores}, {"rows": examples}),
            "odd_outputs": signature("classify", {"points": scores}),
            "odd_regress": signature("regress", {"points": total}),
            "two_inputs": signature("classify", {"scores": scores}, {"inputs": examples, "more": other}),
            "three_outputs": signature("classify", {"classes": classes, "scores": scores, "total": total}),
            "other_input": signature("regress", {"outputs": tf.strings.to_number(other)}, {"inputs": other}),
        }
        builder = tf.compat.v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def save_echo(folder: Path) -> None:
    """Write a SavedModel with a signature for each type of tensor, called as TensorFlow calls the type."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signatures = {}
        for number in DTYPES:
            dtype = tf.as_dtype(number)
            x = tf.compat.v1.placeholder(dtype, name=f"x_{dtype.name}")
            y = tf.identity(x, name=f"y_{dtype.name}")
            signatures[name_of(number)] = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder = tf.compat.v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


class Lite(tf.Module):
    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 3), tf.float32, name="a"),
            tf.TensorSpec((None, 3), tf.float32, name="b"),
        ]
    )
    def total(self, a, b):
        return {"y": a + b}

    @tf.function(
        input_signature=[
            tf.TensorSpec((None,), tf.string, name="words"),
            tf.TensorSpec((None,), tf.int32, name="order"),
        ]
    )
    def pick(self, words, order):
        return {"picked": tf.gather(words, order)}


def save_lite(folder: Path) -> None:
    """Write model.tflite files: `total` and `pick` without SignatureDefs of their own, `named` with one."""
    module = Lite()
    for name in ("total", "pick"):
        (folder / name).mkdir(parents=True)
        function = getattr(module, name).get_concrete_function()
        content = tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert()
        (folder / name / "model.tflite").write_bytes(content)
    (folder / "named").mkdir()
    signature = SignatureDef(method_name="tensorflow/serving/predict")
    for alias, tensor in (("left", "a"), ("right", "b")):
        signature.inputs[alias].name, signature.inputs[alias].dtype = f"serving_default_{tensor}:0", 1
    signature.outputs["sum"].name, signature.outputs["sum"].dtype = "PartitionedCall:0", 1
    content = (folder / "total" / "model.tflite").read_bytes()
    (folder / "named" / "model.tflite").write_bytes(with_signature(content, "adding", signature))


def with_signature(content: bytes, name: str, signature: SignatureDef) -> bytes:
    """Return a TensorFlow Lite file with a SignatureDef in its metadata, as TensorFlow's tool writes it."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    recorded = flexbuffers.Dumps({name: signature.SerializeToString().decode("ascii")})
    buffer, entry = BufferT(), MetadataT()
    buffer.data = np.frombuffer(recorded, np.uint8)
    entry.name, entry.buffer = b"signature_defs_metadata", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def main(folder: Path) -> None:
    for version in (1, 2):
        module = Sum(version)
        signatures = {"serving_default": module.total, "double": module.double}
        tf.saved_model.save(module, str(folder / "sum" / str(version)), signatures=signatures)
    text = Text()
    tf.saved_model.save(text, str(folder / "text"), signatures=text.shout)
    slow = Slow()
    tf.saved_model.save(slow, str(folder / "slow"), signatures=slow.wait)
    apart = Apart()
    names = ("square", "count", "noise", "centre", "total")
    tf.saved_model.save(
        apart, str(folder / "apart"), signatures={name: getattr(apart, name) for name in names}
    )
    save_version_1_graph(folder / "version_1_graph")
    save_judge(folder / "judge")
    save_echo(folder / "echo")
    save_lite(folder / "lite")
    keras.utils.set_random_seed(7)
    dense = keras.Sequential(
        [keras.Input((20,), name="features"), keras.layers.Dense(8, "relu"), keras.layers.Dense(5, "softmax")]
    )
    dense.export(folder / "dense", verbose=False)
    reloaded = tf.saved_model.load(str(folder / "dense"))
    rows = np.random.default_rng(7).normal(size=(9, 20)).astype(np.float32)
    (answer,) = reloaded.signatures["serving_default"](tf.constant(rows)).values()
    np.savez(folder / "answers.npz", rows=rows, answer=answer.numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
