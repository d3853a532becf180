import shutil
import signal
import threading

import numpy as np
import pytest

from serving.errors import Code, LoadError, RequestError
from serving.loader import LoadOptions, load
from tests.serving.asking import CODE, leave, outputs, predict_request, refusal

# What TensorFlow Lite's converter calls the inputs a and b.
A, B = "serving_default_a", "serving_default_b"


@pytest.fixture(scope="module")
def lite(saved_models):
    loaded = {
        name: load(saved_models / "lite" / name, LoadOptions(prefer_tflite=True))
        for name in ("total", "pick", "named")
    }
    yield loaded
    for servable in loaded.values():
        servable.close()


def rows(count, value=1.0):
    return np.full((count, 3), value, np.float32)


def test_a_model_without_signatures_has_one_by_its_tensors_names(lite):
    (signature,) = lite["total"].signatures.values()

    assert list(lite["total"].signatures) == ["serving_default"]
    assert sorted(signature.inputs) == [A, B]
    assert list(signature.outputs) == ["PartitionedCall"]
    assert signature.method_name == "tensorflow/serving/predict"


@pytest.mark.parametrize("count", [1, 5, 2, 0])
def test_any_batch_size_runs(lite, count):
    servable = lite["total"]

    (y,) = servable.run(servable.plan("", [A, B], ()), {A: rows(count), B: rows(count, 4)})

    np.testing.assert_array_equal(y, rows(count, 5))


def test_a_recorded_signature_is_called_by_its_own_names(lite):
    servable = lite["named"]

    (total,) = servable.run(
        servable.plan("adding", ["left", "right"], ["sum"]), {"left": rows(2), "right": rows(2)}
    )

    assert list(servable.signatures) == ["adding"]
    np.testing.assert_array_equal(total, rows(2, 2))


def test_strings_go_in_and_come_out(lite):
    servable = lite["pick"]
    plan = servable.plan("", [f"serving_default_{name}" for name in ("words", "order")], ())
    words = np.array([b"caf\xc3\xa9", b"\xff\x00", b""], object)

    (picked,) = servable.run(
        plan, {"serving_default_words": words, "serving_default_order": np.array([1, 0, 2], np.int32)}
    )

    assert picked.tolist() == [b"\xff\x00", b"caf\xc3\xa9", b""]


def test_threads_run_it_at_the_same_time(lite):
    servable, answers = lite["total"], {}
    plan = servable.plan("", [A, B], ())

    def ask(count):
        answers[count] = [servable.run(plan, {A: rows(count, n), B: rows(count)})[0].sum() for n in range(50)]

    threads = [threading.Thread(target=ask, args=(count,)) for count in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == {count: [count * 3 * (n + 1) for n in range(50)] for count in (1, 2, 3, 4)}


@pytest.mark.parametrize(
    ("a", "text"),
    [
        (np.ones((1, 3)), f"Expects {A} to be float but double is provided"),
        (np.ones((2, 4), np.float32), "failed to prepare"),
    ],
)
def test_what_the_model_can_not_take_is_refused_and_leaves_it_whole(lite, a, text):
    servable = lite["total"]
    plan = servable.plan("", [A, B], ())

    with pytest.raises(RequestError, match=text) as caught:
        servable.run(plan, {A: a, B: rows(1)})

    assert caught.value.code is Code.INVALID_ARGUMENT
    np.testing.assert_array_equal(servable.run(plan, {A: rows(1), B: rows(1)})[0], rows(1, 2))


def test_what_is_no_model_is_a_load_error(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"not a model")

    with pytest.raises(LoadError, match="Cannot build Interpreter from buffer"):
        load(tmp_path, LoadOptions(prefer_tflite=True))


@pytest.mark.full
def test_the_server_prefers_it_where_the_flag_says_so(saved_models, place, start_server, tmp_path):
    both = place(saved_models / "sum" / "1", tmp_path / "m" / "1")
    shutil.copy(saved_models / "lite" / "named" / "model.tflite", both)
    place(saved_models / "sum" / "2", tmp_path / "m" / "2")
    place(saved_models / "lite" / "named", tmp_path / "m" / "3")
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m", base_path: "{tmp_path / "m"}", '
        'model_platform: "tensorflow", model_version_policy { all {} } } }'
    )
    server = start_server(f"--model_config_file={config}", "--prefer_tflite_model=true")

    answers = [
        server.call("Predict", predict_request("m", "adding", version, left=rows(2), right=rows(2)))
        for version in (1, 3)
    ]
    fallen_back = server.call("Predict", predict_request("m", version=2, a=rows(1), b=rows(1)))

    for answer in answers:
        np.testing.assert_array_equal(outputs(answer)["sum"], rows(2, 2))
    assert outputs(fallen_back)["version"].tolist() == [2]
    assert refusal(server, "Predict", predict_request("m", version=1)) == (
        CODE.FAILED_PRECONDITION,
        'Serving signature key "serving_default" not found.',
    )
    leave(server, signal.SIGTERM, 5)
