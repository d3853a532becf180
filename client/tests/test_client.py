from __future__ import annotations

import hashlib
import math
import socket
import threading

import numpy as np
import pytest

from fitserve import (
    ChecksumMismatchError,
    Client,
    ConflictError,
    DeadlineExceededError,
    InvalidInputError,
    JobStatus,
    NotFoundError,
    ProblemError,
    UnauthorizedError,
    UnavailableError,
)

SPEC = {"name": "digits", "fit": {"epochs": 2}}


def test_a_submitted_job_comes_back_typed_with_unknown_fields_kept(client):
    job = client.submit(SPEC)

    assert (job.status, job.kind, job.is_finished) == (JobStatus.QUEUED, "train", False)
    assert job.created_at.isoformat() == "2030-01-02T03:04:05.678000+00:00"
    assert job.raw["a_field_of_a_newer_server"] == 1


def test_the_same_key_submits_the_same_job(client):
    first, again, other = client.submit(SPEC, "k"), client.submit(SPEC, "k"), client.submit(SPEC)
    assert first.id == again.id != other.id


def test_a_submission_whose_answer_got_lost_is_sent_again_and_makes_one_job(api, client):
    api.drop_next_answer = True

    job = client.submit(SPEC)

    assert list(api.jobs) == [job.id]
    assert api.requests.count(("POST", "/v1/jobs")) == 2


def test_a_refused_spec_tells_every_pointer(client):
    with pytest.raises(InvalidInputError) as caught:
        client.submit({"name": "digits"})

    assert isinstance(caught.value, ProblemError)
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (422, "invalid_spec", "req_1")
    assert [each.pointer for each in caught.value.errors] == ["/fit/epochs", "/model/layers/0/config/unit"]
    assert "did you mean units?" in str(caught.value)


def test_jobs_come_from_all_pages_in_order_up_to_the_limit(api, client):
    for number in range(5):
        api.add_job(f"job_{number}", "running" if number == 2 else "queued")

    assert [job.id for job in client.jobs()] == [f"job_{number}" for number in range(5)]
    assert [job.id for job in client.jobs(limit=3)] == ["job_0", "job_1", "job_2"]
    assert [job.id for job in client.jobs(status="running")] == ["job_2"]


def test_waiting_ends_when_the_job_has(api, client):
    job = api.add_job("job_1", "running")
    threading.Timer(0.2, job.update, kwargs={"status": "succeeded"}).start()

    assert client.wait("job_1", timeout_s=10).status == "succeeded"


def test_waiting_longer_than_allowed_says_that_the_job_goes_on(api, client):
    api.add_job("job_1", "running")
    with pytest.raises(DeadlineExceededError, match=r"still running after 0\.2 s"):
        client.wait("job_1", timeout_s=0.2)


def test_cancelling_a_finished_job_is_a_conflict(api, client):
    api.add_job("job_1", "succeeded")
    with pytest.raises(ConflictError, match="has succeeded"):
        client.cancel("job_1")


def test_events_arrive_once_and_in_order_though_the_stream_breaks_twice(api, client):
    api.add_training("job_1")
    api.break_after = [3, 2]

    events = list(client.events("job_1"))

    assert [event.id for event in events] == list(range(1, 10))
    assert api.streams == ["0", "3", "5"]
    assert events[-1].is_last


def test_events_begin_after_the_number_asked_for(api, client):
    api.add_training("job_1")
    assert [event.id for event in client.events("job_1", after=7)] == [8, 9]


def test_the_text_of_an_event_may_hold_unicode_line_separators(api, client):
    api.add_training("job_1")
    log = next(event for event in client.events("job_1") if event.kind == "log")
    assert log.data["message"] == "a line\u2028with a separator of its own"


def test_a_finished_job_without_further_events_ends_the_iteration(api, client):
    api.add_training("job_1")
    assert list(client.events("job_1", after=9)) == []


def test_events_of_a_job_that_hangs_end_with_the_time_given_in_spite_of_pings(api, client):
    api.add_job("job_1", "running")
    api.keep_open = True
    with pytest.raises(DeadlineExceededError, match=r"after 1\.2 s"):
        list(client.events("job_1", timeout_s=1.2))


def test_events_of_an_unknown_job_are_not_found(client):
    with pytest.raises(NotFoundError):
        next(client.events("job_0"))


def test_an_upload_comes_back_when_the_server_has_read_it(client, tmp_path):
    path = tmp_path / "digits.csv"
    path.write_text("x,y\n1,2\nslow,1\n")

    dataset = client.upload(path, "digits")

    assert (dataset.name, dataset.status, dataset.size_bytes) == ("digits", "ready", 15)
    assert [each.id for each in client.datasets()] == [dataset.id]


def test_models_and_versions_are_listed(client):
    (model,) = client.models()
    assert (model.name, model.versions, model.latest) == ("digits", (1, 3), 3)
    assert [each.version for each in client.versions("digits")] == [3, 1]


def test_a_version_tells_its_artifacts_and_its_state_in_serving(client):
    version = client.version("digits", 3, wait_s=1)
    assert version.serving.state == "AVAILABLE"
    assert [each.name for each in version.artifacts] == ["tflite"]


def test_a_download_has_the_published_digest(api, client, tmp_path):
    path = client.download("digits", 3, "tflite", tmp_path)

    assert path == tmp_path / "tflite"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == api.etag


def test_a_download_with_other_bytes_leaves_what_was_there(api, client, tmp_path):
    target = tmp_path / "model.tflite"
    target.write_bytes(b"before")
    api.etag = "0" * 64

    with pytest.raises(ChecksumMismatchError, match="0000"):
        client.download("digits", 3, "tflite", target)

    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("model.tflite", b"before")]


def test_a_data_set_is_made_from_a_uri_and_waited_for(client):
    dataset = client.upload(uri="https://allowed.example.org/slow.csv", name="digits")
    assert (dataset.status, dataset.name) == ("ready", "digits")
    assert dataset.uri == "https://allowed.example.org/slow.csv"


def test_a_uri_that_is_not_allowed_is_refused(client):
    with pytest.raises(InvalidInputError, match="not allowed here"):
        client.upload(uri="https://example.org/a.csv")


def test_a_data_set_is_made_of_one_thing(client, tmp_path):
    with pytest.raises(InvalidInputError, match="either a path or a uri"):
        client.upload(tmp_path, uri="https://allowed.example.org/a.csv")


def test_a_data_set_is_deleted_unless_it_is_used(api, client):
    made = client.upload(uri="https://allowed.example.org/a.csv")
    client.delete_dataset(made.id)
    assert api.datasets == {}
    with pytest.raises(ConflictError, match="job_1"):
        client.delete_dataset("ds_used")


def test_a_prediction_takes_arrays_and_bytes_and_gives_plain_values(api, client):
    instances = [{"x": np.float32([1, 2]), "image": b"\x00\xff"}]

    ((first, second),) = client.predict("digits", instances, version=3, signature="core")

    assert first == 0.25
    assert math.isnan(second)
    document = {"instances": [{"x": [1.0, 2.0], "image": {"b64": "AP8="}}], "signature_name": "core"}
    assert api.asked == [("digits/versions/3:predict", document)]


@pytest.mark.parametrize(
    "instances",
    [
        {"age": [31, None], "city": [None, "Łódź"], "rooms": np.array([3, 2])},
        [{"age": 31, "rooms": 3}, {"city": "Łódź", "rooms": 2}],
    ],
    ids=["columns", "rows"],
)
@pytest.mark.parametrize("version", [None, 3])
def test_missing_values_are_sent_as_the_signature_says(api, client, instances, version):
    client.predict("digits", instances, version=version)

    first, second = api.asked[-1][1]["instances"]
    assert first == {"age": 31, "city": "", "rooms": 3}
    assert math.isnan(second.pop("age"))
    assert second == {"city": "Łódź", "rooms": 2}


def test_missing_values_of_bare_rows_are_nan(api, client):
    client.predict("digits", [[1, None]], signature="core")
    ((one, gap),) = api.asked[-1][1]["instances"]
    assert one == 1
    assert math.isnan(gap)


def test_a_missing_integer_is_refused_before_anything_is_asked(api, client):
    with pytest.raises(InvalidInputError, match="input 'rooms': row 2 has no value"):
        client.predict("digits", {"age": [1, 2], "rooms": [1, None]})
    assert api.asked == []


def test_columns_of_different_lengths_are_no_rows(client):
    with pytest.raises(InvalidInputError, match="age has 2, city has 1"):
        client.predict("digits", {"age": [1, 2], "city": ["Rome"]})


def test_the_words_of_tensorflow_serving_pass_through_the_proxy(client):
    with pytest.raises(NotFoundError, match=r"Servable not found for request: Latest\(absent\)"):
        client.predict("absent", [[1]])


def test_a_wrong_token_is_told_as_such(api):
    with Client(api.url, "another") as client, pytest.raises(UnauthorizedError, match="bearer token"):
        list(client.jobs())


def test_a_port_where_nothing_listens_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Client(url) as client, pytest.raises(UnavailableError, match=url):
        client.job("job_1")
