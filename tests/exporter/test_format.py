from __future__ import annotations

import subprocess
import sys

import pytest

from exporter.format import ConvertedFormat, WrittenFormat, formats, missing

NEW_FORMAT = '''
"""Notes on a postcard."""
from exporter.format import FormatOptions, Runtime, Tolerance

NAME = "postcard"
PATH = "assets.extra/{name}.txt"
REQUIRES = ("no_such_module",)
RUNTIME = Runtime("postcard", "postcard")


class Options(FormatOptions):
    colour: bool = False


def tolerance(options): return Tolerance(0.5)
def convert(saved_model, destination, options, representative): return "by hand"
def load(path): raise NotImplementedError
'''


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_formats_are_found_by_name():
    assert list(formats()) == ["h5", "keras", "onnx", "saved_model", "tfjs", "tflite"]


def test_the_saved_model_is_written_and_the_others_are_converted_from_it():
    assert isinstance(formats()["saved_model"], WrittenFormat)
    assert isinstance(formats()["tflite"], ConvertedFormat)
    assert isinstance(formats()["tfjs"], ConvertedFormat)
    assert isinstance(formats()["onnx"], ConvertedFormat)


@pytest.mark.parametrize("name", formats())
def test_every_format_is_feasible_here(name):
    assert missing(formats()[name]) == ()


def test_a_new_format_is_one_new_file(tmp_path):
    (tmp_path / "postcard.py").write_text(NEW_FORMAT)
    result = run_python(
        f"import exporter.formats; exporter.formats.__path__.append({str(tmp_path)!r})\n"
        "from exporter.entries import read_entries\n"
        "(entry,) = read_entries([{'format': 'postcard', 'colour': True}])\n"
        "from exporter.format import missing\n"
        "print(entry.path, entry.options, missing(entry.maker))"
    )
    assert result.stdout == "assets.extra/postcard.txt colour=True ('no_such_module',)\n", result.stderr


def test_a_format_may_need_more_than_python_modules(tmp_path):
    (tmp_path / "postcard.py").write_text(NEW_FORMAT + "def missing(): return ('a stamp (post office)',)\n")
    result = run_python(
        f"import exporter.formats; exporter.formats.__path__.append({str(tmp_path)!r})\n"
        "from exporter.format import formats, missing\n"
        "print(missing(formats()['postcard']))"
    )
    assert result.stdout == "('no_such_module', 'a stamp (post office)')\n", result.stderr


def test_a_module_that_breaks_the_contract_is_named(tmp_path):
    (tmp_path / "postcard.py").write_text(NEW_FORMAT.replace("def load", "def laod"))
    result = run_python(
        f"import exporter.formats; exporter.formats.__path__.append({str(tmp_path)!r})\n"
        "from exporter.format import formats; formats()"
    )
    assert "TypeError: exporter.formats.postcard must declare NAME" in result.stderr


def test_reading_entries_needs_no_tensorflow_and_no_numpy():
    result = run_python(
        "import sys, exporter.entries, exporter.format, exporter.errors\n"
        "print(sorted({'tensorflow', 'keras', 'numpy', 'onnx'} & sys.modules.keys()))"
    )
    assert result.stdout == "[]\n", result.stderr
