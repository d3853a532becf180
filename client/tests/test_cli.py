from __future__ import annotations

import json

import numpy as np
import pytest

from fitserve.cli.exits import Exit
from fitserve.cli.specs import read_instances, read_spec, with_values

SPEC = {"name": "digits", "fit": {"epochs": 2}}


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def words(table: str) -> str:
    return " ".join(table.split())


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(SPEC))
    return str(path)


def test_submit_says_how_to_follow_the_job(fitserve, spec):
    ran = fitserve("submit", spec)
    assert (ran.code, ran.out) == (Exit.OK, "job job_1 queued; follow it with: fitserve watch job_1\n")


def test_submit_takes_yaml_from_the_standard_input_and_changes_to_it(fitserve):
    text = "name: digits\nfit: {epochs: 2}\ncompile: {learning_rate: 1e-3}\n"

    ran = fitserve("submit", "-", "--set", "fit.epochs=5", "--set", "labels.team=a", "--json", stdin=text)

    assert ran.code == Exit.OK
    expected = {"epochs": 5}, {"learning_rate": 0.001}, {"team": "a"}
    sent = lines(ran.out)[0]["spec"]
    assert (sent["fit"], sent["compile"], sent["labels"]) == expected


def test_a_refused_spec_shows_every_pointer(fitserve, tmp_path):
    (tmp_path / "s.json").write_text('{"name": "digits"}')

    ran = fitserve("submit", "s.json")

    assert (ran.code, ran.out) == (Exit.REFUSED, "")
    assert "/fit/epochs: is missing" in ran.err
    assert "/model/layers/0/config/unit: unknown; did you mean units?" in ran.err


def test_watch_prints_a_line_an_epoch_where_there_is_no_terminal(fitserve, api):
    api.add_training("job_1")
    api.break_after = [4]

    ran = fitserve("watch", "job_1")

    assert ran.code == Exit.OK
    shown = ran.out.split("\n")  # the log line has a separator that splitlines() would cut at
    assert shown[:2] == ["queued", "training"]
    assert shown[2].startswith("epoch 1/2  loss 0.5  accuracy 0.8  val_loss 0.6")
    assert shown[4].startswith("epoch 2/2  loss 0.25  accuracy 0.9  val_loss 0.4")
    assert shown[5:8] == ["published digits version 3", "succeeded", "job job_1 succeeded: digits version 3"]
    assert "12.3 kB" in ran.out
    assert "3e-08" in ran.out


def test_watch_ends_with_how_the_data_kept_up(fitserve, api):
    api.add_training("job_1")
    api.jobs["job_1"]["pipeline"] = {"verdict": "input_bound", "advice": ["cache the rows", "more cores"]}

    ran = fitserve("watch", "job_1")

    assert ran.out.endswith("data pipeline: input_bound\n  cache the rows\n  more cores\n")


def test_watch_json_prints_a_line_an_event(fitserve, api):
    api.add_training("job_1")

    ran = fitserve("watch", "job_1", "--json")

    events = lines(ran.out)
    assert [event["id"] for event in events] == list(range(1, 10))
    assert events[-1] == {"id": 9, "event": "status", "data": {"status": "succeeded"}}


def test_watch_tells_a_failed_job_by_its_code_and_its_remedy(fitserve, api):
    api.add_training("job_1", "failed")

    ran = fitserve("watch", "job_1")

    assert ran.code == Exit.JOB_FAILED
    assert "nan_loss: loss became NaN in epoch 2\n  lower the learning rate" in ran.err


def test_watch_of_a_cancelled_job_has_a_code_of_its_own(fitserve, api):
    api.add_training("job_1", "cancelled")
    assert fitserve("watch", "job_1").code == Exit.JOB_CANCELLED


def test_watch_ends_with_the_time_given(fitserve, api):
    api.add_job("job_1", "running")
    ran = fitserve("watch", "job_1", "--timeout", "0.3")
    assert (ran.code, "it goes on" in ran.err) == (Exit.TIMEOUT, True)


def test_an_unknown_job_is_not_found(fitserve):
    assert fitserve("watch", "job_0").code == Exit.NOT_FOUND


def test_a_server_that_is_not_there_is_told_by_its_address(fitserve):
    ran = fitserve("jobs", FITSERVE_URL="http://127.0.0.1:1")
    assert (ran.code, "http://127.0.0.1:1" in ran.err) == (Exit.UNREACHABLE, True)


def test_the_url_option_wins_over_the_environment(fitserve, api):
    assert fitserve("--url", api.url, "jobs", FITSERVE_URL="http://127.0.0.1:1").code == Exit.OK


def test_a_wrong_token_has_a_code_of_its_own(fitserve):
    assert fitserve("jobs", FITSERVE_TOKEN="another").code == Exit.UNAUTHORIZED


def test_cancelling_a_finished_job_is_a_conflict(fitserve, api):
    api.add_job("job_1", "succeeded")
    assert fitserve("cancel", "job_1").code == Exit.CONFLICT


def test_a_misspelt_command_is_usage(fitserve):
    ran = fitserve("sumbit")
    assert (ran.code, "submit" in ran.err) == (Exit.REFUSED, True)


def test_jobs_models_and_datasets_are_tables_or_a_json_line_each(fitserve, api, tmp_path):
    api.add_job("job_1", "running", phase="training", progress={"fraction": 0.5})
    (tmp_path / "d.csv").write_text("x,y\n1,2\n")

    uploaded = fitserve("datasets", "upload", "d.csv", "--name", "digits")

    assert uploaded.out == "data set ds_1 ready: dataset://digits\n"
    assert "job_1 digits running training 50%" in words(fitserve("jobs").out)
    assert [job["id"] for job in lines(fitserve("jobs", "--json").out)] == ["job_1"]
    assert "digits 3 1, 3" in words(fitserve("models").out)
    assert lines(fitserve("models", "--json").out)[0]["name"] == "digits"
    assert "ds_1 digits csv 2 8 B ready" in words(fitserve("datasets", "list").out)
    assert lines(fitserve("datasets", "list", "--json").out)[0]["id"] == "ds_1"


def test_a_data_set_that_cannot_be_read_fails_with_the_reason(fitserve, tmp_path):
    (tmp_path / "d.csv").write_text("broken")
    ran = fitserve("datasets", "upload", "d.csv")
    assert (ran.code, "row 2 is short" in ran.err) == (Exit.JOB_FAILED, True)


def test_a_uri_becomes_a_data_set_and_goes_again(fitserve):
    added = fitserve("datasets", "add", "s3://allowed/d.csv", "--name", "digits")
    assert (added.code, added.out) == (Exit.OK, "data set ds_1 ready: dataset://digits\n")
    assert fitserve("datasets", "delete", "ds_1").out == "data set ds_1 deleted\n"
    assert fitserve("datasets", "delete", "ds_1").code == Exit.NOT_FOUND
    assert fitserve("datasets", "delete", "ds_used").code == Exit.CONFLICT
    assert fitserve("datasets", "add", "s3://other/d.csv").code == Exit.REFUSED


def test_what_looks_wrong_in_an_upload_is_shown(fitserve, tmp_path):
    (tmp_path / "d.csv").write_text("x,y\n1,2\n3,\n")
    ran = fitserve("datasets", "upload", "d.csv")
    assert ran.out == "data set ds_1 ready: dataset://ds_1\n  column y, row 2: 1 missing\n"


def test_predict_prints_a_line_a_row(fitserve, api):
    ran = fitserve("predict", "digits", "--instances", "[[1, 2]]", "--version", "3")
    assert (ran.code, ran.out) == (Exit.OK, "[0.25, NaN]\n")
    assert api.asked == [("digits/versions/3:predict", {"instances": [[1, 2]]})]


def test_predict_wants_one_source_of_rows(fitserve):
    assert fitserve("predict", "digits").code == Exit.REFUSED


def test_download_checks_and_names_the_file(fitserve, tmp_path):
    ran = fitserve("download", "digits", "3", "tflite", "--to", "model.tflite", "--json")
    assert lines(ran.out) == [
        {"path": "model.tflite", "size_bytes": (tmp_path / "model.tflite").stat().st_size}
    ]


def plug_in(folder, name: str, code: str) -> str:
    """An installed distribution with an entry point, as far as Python can tell."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fitserve.commands]\n{name} = {name}_commands:app\n")
    (folder / f"{name}_commands.py").write_text(code)
    return str(folder)


def test_a_server_s_commands_join_and_a_broken_one_is_told_without_harm(fitserve, tmp_path):
    import os

    code = "import typer\napp = typer.Typer()\n@app.command()\ndef greet(): print('hello')\n"
    paths = [
        plug_in(tmp_path / "a", "greeter", code),
        plug_in(tmp_path / "b", "ruined", "raise RuntimeError('ruin')"),
    ]
    path = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])

    greeted = fitserve("greet", PYTHONPATH=path)
    listed = fitserve("jobs", PYTHONPATH=path)

    assert (greeted.code, greeted.out) == (Exit.OK, "hello\n")
    assert "'ruined'" in greeted.err
    assert "RuntimeError: ruin" in greeted.err
    assert (listed.code, listed.err) == (Exit.OK, "")


def test_yaml_is_read_as_its_second_edition_means_it(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("a: 1e-3\nb: no\nc: 2030-01-02\nd: true\ne: 1.5\nf: 7\ng: -.5\nh: null\n")

    spec = read_spec(str(path))

    assert spec == {
        "a": 0.001,
        "b": "no",
        "c": "2030-01-02",
        "d": True,
        "e": 1.5,
        "f": 7,
        "g": -0.5,
        "h": None,
    }


def test_settings_reach_into_lists_and_make_mappings():
    spec = {"model": {"layers": [{"units": 1}]}}
    with_values(spec, ["model.layers.0.units=64", "fit.shuffle=false", "name=digits"])
    assert spec == {"model": {"layers": [{"units": 64}]}, "fit": {"shuffle": False}, "name": "digits"}


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.json", '{"instances": [[1, 2]]}', [[1, 2]]),
        ("a.csv", "1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("b.csv", "age,city\n30,Oslo\n,\n", [{"age": 30, "city": "Oslo"}, {"age": None, "city": None}]),
    ],
)
def test_rows_come_from_files(tmp_path, name, content, rows):
    (tmp_path / name).write_text(content)
    assert read_instances(tmp_path / name) == rows


def test_rows_come_from_npy_but_never_from_pickles(tmp_path):
    from fitserve import InvalidInputError

    np.save(tmp_path / "a.npy", np.float32([[1, 2]]))
    np.save(tmp_path / "b.npy", np.array([{}], object), allow_pickle=True)

    assert read_instances(tmp_path / "a.npy") == [[1, 2]]
    with pytest.raises(InvalidInputError, match="npy"):
        read_instances(tmp_path / "b.npy")
