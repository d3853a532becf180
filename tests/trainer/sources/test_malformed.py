"""Every malformed file ends as invalid data, told with its place, soon, and without a trace."""

from __future__ import annotations

import re
import time

import pytest

from tests.trainer.sources.malformed import MALFORMED, Malformed, matches
from trainer.errors import InvalidDataError
from trainer.profiling import inspect
from trainer.source import DataFile, detect, sources


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=list(MALFORMED))
def test_a_malformed_file_is_invalid_data_with_its_place(malformed: Malformed, tmp_path) -> None:
    path, conversions = tmp_path / malformed.filename, tmp_path / "conversions"
    path.write_bytes(malformed.content())
    began = time.monotonic()
    with pytest.raises(InvalidDataError) as caught:
        inspect(DataFile(path, conversions), detect(path, path.name))
    # 0.1 s is usual; the bomb took 0.8 s, which is unpacked until it is one.
    assert time.monotonic() - began < 10
    assert caught.value.code == "invalid_data"
    assert re.search(malformed.says, caught.value.detail), caught.value.detail
    assert matches(caught.value.location, malformed.location), caught.value.location
    assert not conversions.exists() or not list(conversions.iterdir())


def test_every_source_of_files_is_tried() -> None:
    endings = {malformed.filename.partition(".")[2] for malformed in MALFORMED.values()}
    assert {"csv", "csv.gz", "jsonl", "npy", "npz", "parquet", "tfrecord", "zip"} <= endings
    assert sources().keys() == {
        *("csv", "image_folder", "inline", "jsonl", "npy", "npz", "parquet", "tfrecord"),
    }
