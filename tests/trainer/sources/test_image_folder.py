import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from trainer.errors import InvalidDataError
from trainer.source import DataFile, detect
from trainer.sources import image_folder


def picture(shade=0, kind="PNG", size=(8, 6)):
    content = io.BytesIO()
    pixels = np.random.default_rng(shade).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


FILES = {
    "dog/2.png": picture(2),
    "dog/10.JPG": picture(3, "JPEG"),
    "cat/b.bmp": picture(1, "BMP"),
    "cat/more/a.gif": picture(0, "GIF"),
}
ORDER = [("cat/b.bmp", "cat"), ("cat/more/a.gif", "cat"), ("dog/10.JPG", "dog"), ("dog/2.png", "dog")]


@pytest.fixture
def archive(tmp_path):
    def pack(files, name="pets.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as made:
            for each, content in files.items():
                made.writestr(each, content)
        return DataFile.of(tmp_path / name)

    return pack


def rows(file):
    table = image_folder.open_table(None, file)
    (chunk,) = table.chunks(["image", "label"])
    assert {name: field.dtype for name, field in table.fields.items()} == {
        "image": "bytes",
        "label": "string",
    }
    return list(zip(chunk["image"].tolist(), chunk["label"].tolist(), strict=True))


def test_each_file_is_a_row_in_the_order_of_classes_and_names(archive):
    saved = archive(FILES)
    assert detect(saved.path, "upload") == "image_folder"
    assert rows(saved) == [(FILES[name], label) for name, label in ORDER]


def test_a_class_whose_name_is_not_in_utf_8_is_told_by_its_file(tmp_path):
    for folder in (b"cat", b"gr\xfcn"):
        path = tmp_path / "pets" / os.fsdecode(folder) / "1.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(picture())
    with pytest.raises(InvalidDataError, match="not in UTF-8") as caught:
        rows(DataFile.of(tmp_path / "pets"))
    assert caught.value.location == {"file": r"gr\udcfcn/1.png"}


def test_a_damaged_file_whose_name_is_not_in_utf_8_can_be_told(tmp_path):
    path = tmp_path / "pets" / "cat" / os.fsdecode(b"gr\xfcn.png")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no image")
    with pytest.raises(InvalidDataError, match="is no JPEG") as caught:
        rows(DataFile.of(tmp_path / "pets"))
    assert caught.value.detail.encode().decode() == caught.value.detail
    assert caught.value.location["file"] == r"cat/gr\udcfcn.png"


def test_a_folder_is_read_as_its_archive(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert detect(tmp_path / "pets", "pets") == "image_folder"
    assert rows(DataFile.of(tmp_path / "pets")) == [(FILES[name], label) for name, label in ORDER]


def test_folders_around_the_classes_are_passed_through_and_other_files_passed_over(archive):
    others = {
        "pets/": b"",
        "__MACOSX/pets/cat/._b.bmp": b"x",
        "pets/.DS_Store": b"x",
        "pets/cat/.hidden.png": b"x",
        "pets/README.md": b"x",
    }
    saved = archive(others | {f"pets/train/{name}": content for name, content in FILES.items()})
    assert detect(saved.path, "pets.zip") == "image_folder"
    assert [label for _, label in rows(saved)] == ["cat", "cat", "dog", "dog"]


def test_an_archive_of_arrays_is_no_image_folder(tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.ones(3))
    assert detect(tmp_path / "rows.npz", "rows.zip") == "npz"


def test_large_images_come_in_small_chunks(archive, monkeypatch):
    files = {f"c/{number:03}.bmp": picture(number, "BMP", (200, 200)) for number in range(8)}
    monkeypatch.setattr("trainer.table.CHUNK_BYTES", 300_000)
    table = image_folder.open_table(None, archive(files))
    assert [len(chunk["image"]) for chunk in table.chunks(["image", "label"])] == [2, 2, 2, 2]


CUT = FILES["dog/10.JPG"][:-200]


@pytest.mark.parametrize(
    ("files", "message", "location"),
    [
        ({"a.txt": b""}, "no images", None),
        ({"a.png": picture(), "cat/b.png": picture()}, "'a.png' is in no folder", {"file": "a.png"}),
        ({"../cat/a.png": picture()}, "leads out of the archive", {"file": "../cat/a.png"}),
        ({"cat/a.png": picture(), "cat/b.jpg": CUT}, "image 'cat/b.jpg', row 2, is damaged: .*[Tt]runcated",
         {"row": 2, "column": "image", "file": "cat/b.jpg"}),
        ({"cat/a.png": picture()[:60]}, "'cat/a.png', row 1, is ",
         {"row": 1, "column": "image", "file": "cat/a.png"}),
        ({"cat/a.png": b"<html>"}, "row 1, is no JPEG, PNG, BMP or GIF",
         {"row": 1, "column": "image", "file": "cat/a.png"}),
    ],
)  # fmt: skip
def test_what_is_no_image_folder_is_told_by_its_file(archive, files, message, location):
    saved = archive(files)
    with pytest.raises(InvalidDataError, match=message) as caught:
        image_folder.open_table(None, saved)
    assert caught.value.location == location
    assert not list(saved.conversions.iterdir())


def test_an_image_of_too_many_pixels_is_never_decoded(archive):
    png = picture()
    header = np.array([60_000, 60_000], dtype=">u4").tobytes()
    with pytest.raises(InvalidDataError, match="row 1"):
        image_folder.open_table(None, archive({"cat/a.png": png[:16] + header + png[24:]}))


@pytest.mark.parametrize("damage", ["name", "content", "end"])
def test_a_damaged_archive_is_invalid_data(archive, damage):
    saved = archive(FILES)
    content = bytearray(saved.path.read_bytes())
    at = {"name": 32, "content": content.find(FILES["dog/2.png"]) + 20, "end": len(content) - 10}[damage]
    content[at] ^= 0xFF
    saved.path.write_bytes(content)
    with pytest.raises(InvalidDataError):
        image_folder.open_table(None, saved)
