"""Whether the input or the device is the limit: by the law's figures, and of jobs made to be one or other."""

import json
import os

import numpy as np
import polars as pl
import pytest

from trainer.diagnosis import Setup, Stage, diagnose

IN_MEMORY = Setup(kept="memory", batch_size=32, augments=False)
ON_DISK = Setup(kept="disk", batch_size=32, augments=False)


def stages(read=0.1, **more):
    return [Stage("order", 0.01, 1), *(Stage(name, ms, 1) for name, ms in {"read": read, **more}.items())]


def test_twelve_and_twenty_are_bound_by_the_twenty():
    found = diagnose(20.4, 20.0, stages(read=12), IN_MEMORY)
    assert found["verdict"] == "compute-bound"
    assert found["input_ms"] == 12
    assert found["bounds_ms"] == {"sum": 32, "max": 20}
    assert found["device_use"] == pytest.approx(20 / 20.4, abs=1e-4)
    (advice,) = found["advice"]
    assert advice.startswith(
        "compute-bound: 12 ms to make a batch, 20 ms to compute with it; the input keeps up, so only a faster"
    )
    assert found["saves_ms"] == 0


def test_twelve_and_five_wait_for_the_input_and_a_cache_saves_what_it_can():
    unprepared = Setup(kept="unprepared", batch_size=32, augments=False)
    found = diagnose(12.0, 5.0, stages(read=1.09, prepare=10.9), unprepared)
    assert found["verdict"] == "input-bound"
    assert found["waiting_share"] == pytest.approx(7 / 12, abs=1e-4)
    assert found["advice"][0].startswith(
        "input-bound: 12 ms to make a batch, 5 ms to compute with it; a cache after map saves 7 ms a step: "
        'set data.pipeline.cache to "auto"'
    )
    assert found["saves_ms"] == 7


def test_a_cache_saves_no_more_than_the_map_takes():
    unprepared = Setup(kept="unprepared", batch_size=32, augments=False)
    found = diagnose(12.0, 1.0, stages(read=9, prepare=3), unprepared)
    assert found["saves_ms"] == pytest.approx(3, rel=0.01)


def test_what_saves_most_is_advised_first():
    setup = Setup(kept="unprepared", batch_size=32, augments=True)
    found = diagnose(10.0, 1.0, stages(read=1, prepare=2, augment=7), setup)
    assert "augmentation is 70% of it" in found["advice"][0]
    assert "a cache after map" in found["advice"][1]
    on_disk = diagnose(10.0, 1.0, stages(read=9), ON_DISK)
    assert "kept in memory" in on_disk["advice"][0]
    small = diagnose(0.2, 0.1, stages(read=0.2), IN_MEMORY)
    assert "a larger data.pipeline.batch_size" in small["advice"][0]
    assert small["saves_ms"] == 0


def test_what_keeps_rows_in_memory_is_said_whatever_keeps_them_on_disk():
    (advice,) = diagnose(10.0, 1.0, stages(read=9), ON_DISK)["advice"]
    assert 'as data.pipeline.cache "auto" does if' in advice  # "disk" may have been asked for
    assert "(limits.memory_bytes, or the worker's host)" in advice


@pytest.fixture
def one_core():
    """Let this process use one core alone."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.mark.usefixtures("one_core")
def test_cores_that_the_process_may_not_use_save_nothing():
    setup = Setup(kept="memory", batch_size=32, augments=True, seeded=True)
    found = diagnose(10.0, 1.0, stages(read=1, augment=9), setup)
    assert not any("in a job with a seed" in advice for advice in found["advice"])
    assert diagnose(20.0, 19.9, stages(read=6, augment=6), IN_MEMORY)["input_ms"] == pytest.approx(
        12, abs=0.1
    )


def test_a_seed_costs_what_several_threads_would_save():
    setup = Setup(kept="memory", batch_size=32, augments=True, seeded=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = diagnose(10.0, 1.0, stages(read=1, augment=9), setup)
    assert any("in a job with a seed" in advice for advice in found["advice"]) == (cores > 1)
    plain = diagnose(
        10.0, 1.0, stages(read=9), Setup(kept="disk", batch_size=32, augments=False, seeded=True)
    )
    assert not any("in a job with a seed" in advice for advice in plain["advice"])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    files = [
        tf.io.encode_jpeg(tf.constant(rng.integers(0, 255, (160, 160, 3)), tf.uint8)).numpy()
        for _ in range(640)
    ]
    path = tmp_path_factory.mktemp("pictures") / "pictures.parquet"
    pl.DataFrame({"image": files, "y": np.arange(640) % 2}).write_parquet(path)
    return path


SMALL = [{"class_name": "Flatten"}]
LARGE = [
    {"class_name": "Conv2D", "config": {"filters": 48, "kernel_size": 5, "strides": 3}},
    {"class_name": "Conv2D", "config": {"filters": 48, "kernel_size": 3, "padding": "same"}},
    {"class_name": "GlobalAveragePooling2D"},
]


def body_of(cache, layers, epochs, side=64, batch_size=8):
    last = {"class_name": "Dense", "config": {"units": 2, "activation": "softmax"}}
    return {
        "model": {"kind": "sequential", "layers": [*layers, last]},
        "data": {
            "kind": "parquet", "uri": "dataset://pictures", "features": "image", "label": "y",
            "columns": {"image": {"kind": "image", "image_size": [side, side]}},
            "pipeline": {"batch_size": batch_size, "cache": cache},
        },
        "compile": {"loss": "sparse_categorical_crossentropy", "steps_per_execution": 1},
        "fit": {"epochs": epochs}, "export_weights": "last",
    }  # fmt: skip


def diagnosed(run, recorder, pictures, *how, **more):
    observer = recorder()
    run(body_of(*how) | more, observer, data_file=pictures)
    assert observer.diagnoses
    newest = observer.diagnoses[-1]
    assert json.loads(json.dumps(newest, allow_nan=False)) == newest
    return newest


def test_decoding_in_each_epoch_is_input_bound_and_says_so(run, recorder, pictures):
    found = diagnosed(run, recorder, pictures, False, SMALL, 4, 8, 64)
    assert found["verdict"] == "input-bound"
    assert "a cache after map saves" in found["advice"][0]
    assert [stage["name"] for stage in found["stages"]] == ["order", "read", "prepare"]
    assert found["saves_ms"] > 0
    assert found["waiting_ms"] == pytest.approx(found["step_ms"] - found["compute_ms"], abs=1e-3)


def test_the_stages_of_a_seeded_run_are_known_too(run, recorder, pictures):
    found = diagnosed(run, recorder, pictures, False, SMALL, 2, 8, 64, seed=1)
    assert [stage["name"] for stage in found["stages"]] == ["order", "read", "prepare"]
    assert found["stages"][2]["ms"] > found["stages"][1]["ms"]


def test_rows_on_disk_are_waited_for_where_they_are_read(run, recorder, tmp_path):
    rows, path = 480, tmp_path / "rows.npz"
    np.savez(path, x=np.ones((rows, 64, 64, 3), np.float32), y=np.arange(rows) % 2)
    body = body_of("disk", SMALL, 2)
    body["data"] |= {"kind": "npz", "features": "x", "columns": {}}
    observer = recorder()
    run(body, observer, data_file=path)
    measured = [Stage(**stage) for stage in observer.diagnoses[-1]["stages"]]
    assert [stage.name for stage in measured] == ["read"]
    # What reads them is all that there is to save.
    assert diagnose(10.0, 1.0, measured, ON_DISK)["saves_ms"] == pytest.approx(9)


def test_large_convolutions_over_cached_rows_are_compute_bound_and_say_so(run, recorder, pictures):
    found = diagnosed(run, recorder, pictures, "auto", LARGE, 2)
    assert found["verdict"] == "compute-bound"
    assert found["input_ms"] < found["compute_ms"]
    assert found["device_use"] > 0.9


def test_measuring_takes_less_than_a_hundredth_of_a_step(run, recorder, pictures):
    measured = diagnosed(run, recorder, pictures, "auto", LARGE, 2)["measured"]
    assert measured["steps"] >= 80
    assert measured["own_share"] < 0.01


def test_a_run_leaves_the_model_s_step_as_it_was(run, recorder, pictures):
    trained = run(body_of("auto", SMALL, 1), recorder(), data_file=pictures)
    assert "noting" not in getattr(trained.model.train_function, "__qualname__", "")
