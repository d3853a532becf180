"""Rows of a table in memory, on disk and as they are: the same rows, and trainings resumed to the bit."""

import gzip
import json

import numpy as np
import polars as pl
import pytest

from tests.trainer.compare import same_weights
from tests.trainer.peak import grew_bytes
from trainer.architecture import Base
from trainer.architectures.version import Options
from trainer.errors import InvalidDataError, ResumeError, SpecUnbuildableError
from trainer.fit import fit
from trainer.fitted import Fitted, known_to
from trainer.loading import load
from trainer.source import DataFile
from trainer.spec import TrainSpec

ROWS = 240
KEPT = ("memory", "disk", False)
COLUMNS = {
    "age": {"kind": "number", "missing": "mean"},
    "city": {"kind": "category", "missing": "unknown"},
    "note": {"kind": "text", "max_tokens": 20},
    "born": {"kind": "date"},
    "species": {"kind": "category"},
}
SOFTMAX = {"class_name": "Dense", "config": {"units": 3, "activation": "softmax"}}
FEATURES = ["age", "city", "note", "born", "plain"]


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    rng = np.random.default_rng(5)
    species = np.array(["cat", "dog", "łoś"])[np.arange(ROWS) % 3]
    age = rng.normal(40, 12, ROWS) + 20 * (species == "dog")
    path = tmp_path_factory.mktemp("people") / "people.parquet"
    pl.DataFrame(
        {
            "age": [None if row % 17 == 3 else float(value) for row, value in enumerate(age)],
            "city": [None if row % 11 == 2 else ["Rome", "Oslo", "東京"][row % 5 % 3] for row in range(ROWS)],
            "note": [f"a {kind} in {['spring', 'autumn'][row % 2]}" for row, kind in enumerate(species)],
            "born": [f"19{50 + row % 50}-{1 + row % 12:02}-{1 + row % 28:02}" for row in range(ROWS)],
            "plain": rng.normal(size=ROWS).astype(np.float32),
            "species": species,
        }
    ).write_parquet(path)
    return path


def body_of(cache="auto", **data):
    return {
        "model": {"kind": "sequential", "layers": [SOFTMAX]},
        "data": {
            "kind": "parquet", "uri": "dataset://people", "features": FEATURES, "label": "species",
            "columns": COLUMNS, "split": {"by": "stratified", "fractions": [0.7, 0.2, 0.1]},
            "pipeline": {"batch_size": 16, "cache": cache}, **data,
        },
        "compile": {"loss": "sparse_categorical_crossentropy", "optimizer": "adam", "metrics": ["accuracy"]},
        "fit": {"epochs": 3}, "seed": 3,
    }  # fmt: skip


def options(**data):
    return TrainSpec.model_validate(body_of(**data)).data


def loaded(people, folder=None, **data):
    return load(options(**data), DataFile.of(people), 3, folder=folder)


def test_labels_that_are_categories_become_classes_in_their_order(people):
    splits = loaded(people)
    assert splits.fitted.classes == {"species": ["cat", "dog", "łoś"]}
    assert splits.train.targets["label"].dtype == np.int64
    assert set(splits.train.targets["label"].tolist()) == {0, 1, 2}


def test_what_is_fitted_is_fitted_on_training_rows_alone(people):
    splits = loaded(people)
    ages = splits.train.features["features"][:, 0]
    assert ages.mean() == pytest.approx(0, abs=1e-3)
    assert abs(splits.test.features["features"][:, 0].mean()) > 1e-3


@pytest.mark.parametrize("cache", KEPT)
def test_rows_are_the_same_wherever_they_are_kept(people, tmp_path, cache):
    expected, found = loaded(people), loaded(people, tmp_path, pipeline={"cache": cache})
    assert found.train.stored == (cache == "disk")
    assert (found.train.unprepared is not None) == (cache is False)
    for name in ("train", "validation", "test"):
        one, other = getattr(expected, name), getattr(found, name).ready()
        assert np.array_equal(one.features["features"], other.features["features"])
        assert np.array_equal(one.targets["label"], other.targets["label"])
        assert getattr(found, name).shapes == one.shapes


def test_rows_that_memory_does_not_hold_are_kept_on_disk(people, tmp_path):
    size = ROWS * loaded(people).train.row_bytes
    file = DataFile.of(people)
    assert not load(options(), file, 3, folder=tmp_path / "a", memory_bytes=size * 5).train.stored
    assert load(options(), file, 3, folder=tmp_path / "b", memory_bytes=size * 3).train.stored


def test_all_parts_share_the_room_to_be_cast_in(people):
    splits = load(options(), DataFile.of(people), 3, memory_bytes=1 << 20)
    rooms = [part.room_bytes for part in (splits.train, splits.validation, splits.test)]
    assert sum(rooms) == pytest.approx((1 << 20) / 4, abs=3)
    assert rooms == sorted(rooms, reverse=True)
    assert loaded(people).train.room_bytes is None


def test_labels_and_weights_take_memory_too(tmp_path):
    path, ones = tmp_path / "rows.npz", np.ones((ROWS, 1), np.float32)
    np.savez(path, x=ones, y=ones, w=ones[:, 0])
    data = options(kind="npz", features="x", label="y", sample_weight="w", columns={}, split=None)

    def stored(row_bytes):
        folder, memory_bytes = tmp_path / str(row_bytes), 4 * ROWS * row_bytes
        return load(data, DataFile.of(path), 3, folder=folder, memory_bytes=memory_bytes).train.stored

    assert (stored(11), stored(12)) == (True, False)


def test_rows_that_memory_does_not_hold_as_they_are_are_prepared_once(people, tmp_path):
    data, file = options(pipeline={"cache": False}), DataFile.of(people)
    assert load(data, file, 3, folder=tmp_path / "a", memory_bytes=1 << 20).train.unprepared is not None
    assert load(data, file, 3, folder=tmp_path / "b", memory_bytes=1000).train.stored


def zipped_texts(folder):
    path = folder / "texts.csv.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(["text,y\n", *(f"{'again and ' * 50}{row},{row % 2}\n" for row in range(300))])
    return path, {"kind": "csv", "features": "text", "label": "y", "columns": {"text": COLUMNS["note"]}}


def folder_of_images(folder):
    import tensorflow as tf

    noise = np.random.default_rng(1).integers(0, 255, (40, 32, 32, 3)).astype(np.uint8)
    for row, image in enumerate(noise):
        path = folder / "images" / str(row % 2) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
    columns = {"image": {"kind": "image", "image_size": [4, 4]}, "label": {"kind": "category"}}
    return folder / "images", {
        "kind": "image_folder", "features": "image", "label": "label", "columns": columns,
    }  # fmt: skip


@pytest.mark.parametrize("made", [zipped_texts, folder_of_images])
def test_rows_as_they_are_count_by_what_they_take_in_memory(tmp_path, made):
    path, section = made(tmp_path)
    data, file = options(**section, split=None, pipeline={"cache": False}), DataFile.of(path)
    held = load(data, file, 3).train.held_bytes
    assert held > path.stat().st_size * 5
    kept = [load(data, file, 3, memory_bytes=held * times).fitted.kept for times in (3, 5)]
    assert kept == ["memory", "unprepared"]


TEXTS = """
import sys
from pathlib import Path
import polars as pl
from pydantic import TypeAdapter
from trainer.loading import load
from trainer.source import DataFile
from trainer.spec import Data

def load_texts(rows):
    folder = Path(sys.argv[1]) / str(rows)
    folder.mkdir()
    path = folder / "texts.parquet"
    pl.DataFrame({"note": [f"word{row}" for row in range(rows)], "y": range(rows)}).write_parquet(path)
    data = {"kind": "parquet", "uri": "dataset://texts", "features": "note", "label": "y",
            "columns": {"note": {"kind": "text"}}, "pipeline": {"cache": "disk"}}
    train = load(TypeAdapter(Data).validate_python(data), DataFile.of(path), 3, folder=folder).train
    assert train.row_bytes > 4 * rows

load_texts(10)
"""


@pytest.mark.full
def test_what_is_far_larger_once_it_is_prepared_is_prepared_a_piece_at_a_time(tmp_path):
    rows = 6000
    # Measured: 110 MB, and 590 MB where all is prepared at once.
    assert grew_bytes(TEXTS, f"load_texts({rows})", tmp_path) < 1.4 * (4 * rows * rows)


def test_an_attempt_that_goes_on_keeps_to_what_was_fitted_and_chosen(people, tmp_path):
    first = load(options(), DataFile.of(people), 3, folder=tmp_path, memory_bytes=1000)
    again = load(options(), DataFile.of(people), 3, folder=tmp_path)
    assert again.fitted == first.fitted
    assert again.train.stored
    assert again.buffer_bytes == first.buffer_bytes == 1000 // 16


def test_a_published_version_brings_its_columns(people):
    published = Fitted.of(json.loads(json.dumps(loaded(people).fitted.to_json())))
    plain = TrainSpec.model_validate(body_of()).data.model_copy(update={"columns": {}})
    splits = load(plain, DataFile.of(people), 9, published=published)
    assert splits.fitted.columns == published.columns
    assert splits.fitted.classes == published.classes


def test_a_column_is_not_prepared_otherwise_than_the_version_knows_it(people):
    published = loaded(people).fitted
    other = options(columns=COLUMNS | {"age": {"kind": "number", "missing": 0}})
    with pytest.raises(SpecUnbuildableError, match='"missing": "mean"') as caught:
        load(other, DataFile.of(people), 3, published=published)
    assert caught.value.location == {"pointer": "/data/columns/age"}


def test_a_class_that_the_version_does_not_know_is_told_with_its_row(people, tmp_path):
    published = loaded(people).fitted
    frame = pl.read_parquet(people).head(40)
    cut = tmp_path / "cut.parquet"
    species = frame["species"].to_list()
    frame.with_columns(species=pl.Series([*species[:6], "emu", *species[7:]])).write_parquet(cut)
    with pytest.raises(InvalidDataError, match=r"row 7 holds 'emu', which is none .* known: cat, dog, łoś"):
        load(options(), DataFile.of(cut), 3, published=published)


PETS = {
    "age": [1.0, 2.0, 3.0, 4.0],
    "size": [0.1, 0.2, 0.3, 0.4],
    "name": ["Rex", "Kim", "Tom", "Ada"],
    "species": ["cat", "dog", "cat", "dog"],
    "breed": ["poodle", "persian", "poodle", "boxer"],
}
NUMBER, CATEGORY = {"kind": "number"}, {"kind": "category"}


@pytest.fixture
def pets(tmp_path):
    """Load the pets, with other columns or without, as a version's training did or one that starts there."""

    def pets(columns, published=None, *, without=(), other=PETS, **data):
        path = tmp_path / "pets.parquet"
        pl.DataFrame(PETS | other).drop(without).write_parquet(path)
        section = {"features": ["age", "size"], "label": "species", "split": None, **data}
        body = body_of(columns=columns, **section) | {"model": {"kind": "version", "name": "pets"}}
        return load(TrainSpec.model_validate(body).data, DataFile.of(path), 3, published=published)

    return pets


HEAD = Options.model_validate({"kind": "version", "name": "pets", "head": [SOFTMAX]})


def for_head(splits):
    """What a version that was trained on these brings to a model with a new head."""
    base = Base.of({"kind": "sequential", "layers": [SOFTMAX]}, None, splits.fitted)
    assert known_to(base, HEAD.model_copy(update={"head": None})) == splits.fitted
    return known_to(base, HEAD)


def test_a_new_head_learns_another_label(pets):
    published = for_head(pets({"age": NUMBER, "species": CATEGORY}))
    splits = pets({"breed": CATEGORY}, published, label="breed")
    assert splits.fitted.classes == {"breed": ["boxer", "persian", "poodle"]}
    assert splits.fitted.columns == published.columns
    assert set(splits.fitted.options) == {"age", "breed"}


def test_a_new_head_learns_other_classes_of_the_same_label(pets):
    published = for_head(pets({"species": {"kind": "category", "vocabulary": ["dog", "cat"]}}))
    other = {"species": ["emu", "dog", "emu", "dog"]}
    assert pets({"species": CATEGORY}, published, other=other).fitted.classes == {"species": ["dog", "emu"]}
    said = for_head(pets({"species": CATEGORY}))
    assert pets({}, said, other=other).fitted.classes == {"species": ["dog", "emu"]}


def test_a_version_is_trained_further_under_a_new_head_for_another_label(run, people, tmp_path):
    published = loaded(people).fitted
    base = Base.of({"kind": "sequential", "layers": [SOFTMAX]}, None, published)
    path, sizes = tmp_path / "other.parquet", pl.Series("size", ["small", "large"] * (ROWS // 2))
    pl.read_parquet(people).drop("species").with_columns(sizes).write_parquet(path)
    body = body_of(label="size", columns={"size": CATEGORY})
    body |= {"model": HEAD.model_dump(mode="json"), "fit": {"epochs": 1}}
    trained = run(body, data_file=path, base=base)
    assert trained.fitted.classes == {"size": ["large", "small"]}
    assert trained.fitted.columns == published.columns


def test_columns_that_were_only_checked_need_not_be_there_again(pets):
    published = pets({"age": NUMBER, "name": CATEGORY}, label="size", features="age").fitted
    splits = pets({}, published, label="size", features="age", without="name")
    assert set(splits.fitted.options) == {"age"}


def test_rows_without_a_label_need_none_of_its_classes(pets):
    published = pets({"species": CATEGORY}).fitted
    splits = pets({}, published, label=None)
    assert splits.train.targets == {}
    assert splits.fitted.classes == {}


def test_a_column_that_the_version_takes_as_it_is_is_not_prepared(pets):
    published = pets({"age": NUMBER, "species": CATEGORY}).fitted
    with pytest.raises(
        SpecUnbuildableError, match="doesn't prepare column 'size'; it prepares 'age'"
    ) as caught:
        pets({"size": NUMBER}, published)
    assert caught.value.location == {"pointer": "/data/columns/size"}
    assert "Leave it out of data.columns" in caught.value.remedy


def test_classes_of_another_label_are_not_mistaken_for_the_versions(pets):
    published = pets({"species": CATEGORY}).fitted
    with pytest.raises(
        SpecUnbuildableError, match="knows the classes of 'species', not of 'breed'"
    ) as caught:
        pets({"breed": CATEGORY}, published, label="breed")
    assert caught.value.location == {"pointer": "/data/columns/breed"}
    listed = {"kind": "category", "vocabulary": ["persian", "boxer", "poodle"]}
    assert pets({"breed": listed}, published, label="breed").train.targets["label"].tolist() == [2, 0, 2, 1]


def test_a_text_label_of_which_nothing_is_said_is_told_with_the_remedy(people):
    columns = {name: each for name, each in COLUMNS.items() if name != "species"}
    with pytest.raises(InvalidDataError, match="row 1 holds 'cat', not a number") as caught:
        loaded(people, columns=columns)
    assert '"species": {"kind": "category"}' in caught.value.remedy


def test_several_label_columns_are_one_target(tmp_path):
    path = tmp_path / "labels.parquet"
    pl.DataFrame({"x": [1.0, 2.0], "comedy": [True, False], "drama": [1, 1]}).write_parquet(path)
    some = {"features": "x", "columns": {}, "split": None}
    splits = loaded(path, label=["comedy", "drama"], **some)
    assert splits.train.targets["label"].tolist() == [[1, 1], [0, 1]]
    splits = loaded(path, label={"kinds": ["comedy", "drama"], "value": "x"}, **some)
    assert splits.train.targets["kinds"].shape == (2, 2)
    assert splits.train.targets["value"].dtype == np.float32


@pytest.fixture(scope="module")
def whole(people, tmp_path_factory, recorder):
    """Undisturbed runs, by where their rows were kept."""

    def trained(cache):
        return fit(
            TrainSpec.model_validate(body_of(cache)),
            data_file=people,
            workdir=tmp_path_factory.mktemp("whole"),
            seed=11,
            observer=recorder(),
        )

    return {cache: trained(cache) for cache in KEPT}


def test_rows_prepared_once_or_in_each_batch_train_the_same_model(whole):
    # A sine of one row in 240 may differ in its last bit from that of one in 16: by other instructions.
    for one, other in zip(*(whole[cache].model.get_weights() for cache in ("memory", False)), strict=True):
        assert np.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("cache", KEPT)
def test_a_run_is_resumed_to_the_bit_wherever_its_rows_are(run, killed, people, whole, cache):
    body = body_of(cache) | {"checkpoint": {"every_steps": 2}}
    killed(body, polls=14, data_file=people)
    trained = run(body, data_file=people)
    assert trained.resumed_from is not None
    assert same_weights(trained.model, whole[cache].model)
    assert trained.history == whole[cache].history


def test_rows_moved_to_another_place_are_not_gone_on_with(run, killed, people):
    killed(body_of("memory"), polls=14, data_file=people)
    body = body_of("memory")
    body["data"]["pipeline"]["batch_size"] = 8
    with pytest.raises(ResumeError, match="batch_size"):
        run(body, data_file=people)
