import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving import loader, tensors
from serving.config_file import ModelSettings
from serving.errors import Code, LoadError, RequestError
from serving.lifecycle import Models
from serving.loader import LoadOptions, load
from serving.statuses import State, VersionStatus
from serving.warmup import WARMUP_FILE


@pytest.fixture(scope="module")
def total(saved_models):
    servable = load(saved_models / "sum" / "1", LoadOptions())
    yield servable
    servable.close()


def ones(rows, dtype=np.float32):
    return np.ones((rows, 3), dtype)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_any_batch_size_runs(total, rows):
    plan = total.plan("", ["a", "b"], ())

    version, y = total.run(plan, {"a": ones(rows), "b": ones(rows)})

    assert plan.outputs == ("version", "y")
    assert (version.shape, y.shape) == ((rows,), (rows, 3))
    assert (y == 2).all()


def test_the_order_of_inputs_does_not_matter(total):
    plan = total.plan("", ["b", "a"], ["y"])

    (y,) = total.run(plan, {"b": ones(1), "a": ones(1) * 4})

    assert y.tolist() == [[5, 5, 5]]


def test_a_tensor_of_another_type_is_refused(total):
    with pytest.raises(RequestError, match="actual double vs") as caught:
        total.run(total.plan("", ["a", "b"], ()), {"a": ones(1, np.float64), "b": ones(1)})

    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_graph_of_tensorflow_1_with_tables_and_constants_runs(saved_models):
    servable = load(saved_models / "version_1_graph", LoadOptions())

    ids = servable.plan("", ["words"], ["ids", "constant"])
    answer = servable.run(ids, {"words": np.array([b"two", b"?"], object)})

    assert [each.tolist() for each in answer] == [[12, 9], [1.5]]
    servable.close()


@pytest.fixture(scope="module")
def echo(saved_models):
    servable = load(saved_models / "echo", LoadOptions())
    yield servable
    servable.close()


@pytest.mark.parametrize("number", tensors.DTYPES, ids=tensors.name_of)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_tensors_of_every_type_and_shape_go_through_a_graph(echo, number, shape):
    dtype = tensors.DTYPES[number]
    array = (
        np.full(shape, b"\x00\xff", object)
        if number == tensors.STRING
        else np.ones(shape, np.int8).astype(dtype)
    )

    (answer,) = echo.run(echo.plan(tensors.name_of(number), ["x"], ()), {"x": array})

    assert tensors.number_of(answer.dtype) == number
    assert answer.shape == shape
    np.testing.assert_array_equal(answer, array)


def test_a_tensor_of_any_other_type_is_refused_with_a_fault_of_the_request(echo):
    for wanted in tensors.DTYPES:
        plan = echo.plan(tensors.name_of(wanted), ["x"], ())
        for given in tensors.DTYPES.keys() - {wanted}:
            dtype = tensors.DTYPES[given]
            array = np.full(1, b"1", object) if given == tensors.STRING else np.ones(1, np.int8).astype(dtype)
            with pytest.raises(RequestError) as caught:
                echo.run(plan, {"x": array})
            assert caught.value.code is Code.INVALID_ARGUMENT, (wanted, given, str(caught.value))


def test_feeds_are_not_checked_against_static_shapes(total):
    # The inputs are of shape (rows, 3).
    version, y = total.run(total.plan("", ["a", "b"], ()), {name: ones(1)[0] for name in "ab"})

    assert (version.shape, y.tolist()) == ((3,), [2.0, 2.0, 2.0])


def test_strings_run(saved_models):
    servable = load(saved_models / "text", LoadOptions())

    (upper,) = servable.run(
        servable.plan("", ["words"], ["upper"]), {"words": np.array([b"a", b"b"], object)}
    )

    assert upper.tolist() == [b"A", b"B"]
    servable.close()


def test_what_is_no_saved_model_is_a_load_error(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"not a graph")

    with pytest.raises(LoadError, match=str(tmp_path)):
        load(tmp_path, LoadOptions())


def test_tags_that_are_not_there_are_a_load_error(saved_models):
    with pytest.raises(LoadError, match="train"):
        load(saved_models / "text", LoadOptions(tags=("train",)))


def warmed(place, saved_models, folder, *records) -> Path:
    version = place(saved_models / "sum" / "1", folder / "1")
    path = version / WARMUP_FILE
    path.parent.mkdir()
    # The CRCs are not read.
    path.write_bytes(b"".join(struct.pack("<QI", len(each), 0) + each + bytes(4) for each in records))
    return version


def predict_log(**inputs):
    log = PredictionLog()
    for name, value in inputs.items():
        log.predict_log.request.inputs[name].ParseFromString(tensors.encode(value))
    return log.SerializeToString()


def test_recorded_requests_are_run_before_the_first_caller(place, saved_models, tmp_path):
    version = warmed(place, saved_models, tmp_path, predict_log(a=ones(2), b=ones(2)))

    servable = load(version, LoadOptions())

    assert len(servable.plan("", ["a", "b"], ()).inputs) == 2
    servable.close()


def test_a_recorded_request_that_fails_fails_the_load(place, saved_models, tmp_path):
    version = warmed(place, saved_models, tmp_path, predict_log(a=ones(2)))

    with pytest.raises(LoadError, match=r"Missing but required: \{b\}"):
        load(version, LoadOptions())


def recorded(kind, signature, *, x=(1.0, 2.0), model="judge"):
    log = PredictionLog()
    request = getattr(log, f"{kind}_log").request
    if kind == "multi_inference":
        task = request.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.name, task.model_spec.signature_name = model, signature
    else:
        request.model_spec.name, request.model_spec.signature_name = model, signature
    example = request.input.example_list.examples.add()
    example.features.feature["x"].float_list.value.extend(x)
    return log.SerializeToString()


def recorded_session_run():
    log = PredictionLog()
    log.session_run_log.request.SetInParent()
    return log.SerializeToString()


def warmed_judge(saved_models, folder, *records) -> Path:
    version = folder / "1"
    shutil.copytree(saved_models / "judge", version)
    path = version / WARMUP_FILE
    path.parent.mkdir()
    path.write_bytes(b"".join(struct.pack("<QI", len(each), 0) + each + bytes(4) for each in records))
    return version


def test_recorded_requests_of_every_kind_are_run(saved_models, tmp_path):
    records = [
        recorded("classify", ""),
        recorded("regress", "regress"),
        recorded("multi_inference", "regress"),
    ]
    version = warmed_judge(saved_models, tmp_path, *records, PredictionLog().SerializeToString())

    servable = load(version, LoadOptions())

    assert servable.plan("regress", ["inputs"], ()).outputs == ("outputs",)
    servable.close()


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (recorded("classify", "s"), "No signature was found with the name: s"),
        (recorded("classify", "flat"), r"Expected Tensor shape: \[batch_size num_classes\] but got \[1\]"),
        (recorded("regress", "regress", x=(1.0,)), "x"),
        (recorded("multi_inference", "regress", model=""), "Found ModelSpec with an empty model name."),
        (recorded_session_run(), "Unsupported log_type for warmup: 5"),
        (b"no record", "Failed to parse warmup record 0"),
    ],
)
def test_a_recorded_request_of_any_kind_that_fails_fails_the_load(saved_models, tmp_path, record, text):
    with pytest.raises(LoadError, match=text):
        load(warmed_judge(saved_models, tmp_path, record), LoadOptions())


def test_more_than_a_thousand_records_fail_the_load(saved_models, tmp_path):
    version = warmed_judge(saved_models, tmp_path, *[PredictionLog().SerializeToString()] * 1001)

    with pytest.raises(LoadError, match=r"Number of warmup records exceeds the maximum \(1000\)"):
        load(version, LoadOptions())


def test_a_file_of_warm_up_requests_that_is_cut_off_fails_the_load(place, saved_models, tmp_path):
    version = warmed(place, saved_models, tmp_path, predict_log(a=ones(2), b=ones(2)))
    path = version / WARMUP_FILE
    path.write_bytes(path.read_bytes()[:-9])

    with pytest.raises(LoadError, match="cut off"):
        load(version, LoadOptions())


def test_a_failed_load_has_the_code_of_tensorflows_error(place, saved_models, tmp_path):
    damaged = place(saved_models / "sum" / "1", tmp_path / "damaged" / "1")
    index = damaged / "variables" / "variables.index"
    index.write_bytes(index.read_bytes()[:-8])

    with pytest.raises(LoadError) as caught:
        load(damaged, LoadOptions())

    assert caught.value.kind is Code.DATA_LOSS


def test_a_load_that_python_refuses_has_no_code_of_its_own(tmp_path):
    with pytest.raises(LoadError) as caught:
        load(tmp_path, LoadOptions())

    assert caught.value.kind is Code.UNKNOWN


@pytest.mark.usefixtures("undetermined")
def test_models_of_every_make_are_loaded_at_the_same_time(place, saved_models, tmp_path):
    names = ("sum/1", "dense", "text", "version_1_graph", "judge", "echo", "apart")
    settings = []
    for name in names:
        version = place(saved_models / name, tmp_path / name.replace("/", "-") / "1")
        settings.append(ModelSettings(version.parent.name, version.parent))
    models = Models(lambda path: load(path, LoadOptions()), load_threads=len(names), unload_threads=2)
    models.configure(settings)

    models.reconcile()

    assert {each.name: models.status(each.name) for each in settings} == {
        each.name: [VersionStatus(1, State.AVAILABLE)] for each in settings
    }
    models.close()


@pytest.mark.parametrize(
    ("model", "asked", "threads"),
    [("sum/1", 0, 1), ("slow", 0, 0), ("sum/1", 2, 2)],
    ids=["a quick one", "a slow one", "as asked for"],
)
def test_a_quick_model_runs_on_one_thread_unless_told_otherwise(saved_models, model, asked, threads):
    servable = load(saved_models / model, LoadOptions(intra_op_threads=asked))

    assert servable._session._config.intra_op_parallelism_threads == threads
    servable.close()


def test_a_large_model_is_loaded_once(saved_models, monkeypatch):
    monkeypatch.setattr(loader, "_LARGEST_TWICE_BYTES", 1)
    servable = load(saved_models / "sum" / "1", LoadOptions())

    assert servable._session._config.intra_op_parallelism_threads == 0
    servable.close()
