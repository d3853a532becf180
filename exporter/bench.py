"""Where the artifacts of one export are made and held against the model, one after the other."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exporter.arrays import read_arrays, write_arrays
from exporter.artifact import Artifact, measure
from exporter.converter import Converter
from exporter.custom import modules_of
from exporter.endpoint import Endpoint
from exporter.entries import SAVED_MODEL, Entry, read_entries
from exporter.errors import ExporterError, ExportFailedError, ExportMismatchError, making_failed
from exporter.format import SIGNATURE, StandInFormat, WrittenFormat
from exporter.formats import saved_model as saved_model_format
from exporter.further_signatures import FurtherSignature, further_signatures
from exporter.parity import Parity, compare
from exporter.preparation import CORE, Preparation
from exporter.proof import BATCH_SIZE, Latency
from exporter.samples import Samples
from exporter.warmup import write_warmup

if TYPE_CHECKING:
    import keras

    from exporter.endpoint import DecodeImages
    from exporter.format import Arrays

PROOF_ROWS = 1024
"""How many held-out rows a proof looks at, at most; int8's 2 % of accuracy is then 20 rows."""
FEWEST_ROWS = 256
"""Below so many, training rows are asked too."""
FURTHER_ROWS = 256
"""How many rows a further signature is asked, at most: what it asks in turn is proven by all."""
CALIBRATION_ROWS = 1024
"""How many training rows are handed to the converters, at most."""


@dataclass(frozen=True)
class Bench:
    """What every entry of one export shares: the model's own answers, the rows on disk, the child."""

    endpoint: Endpoint
    expected: Arrays
    targets: Arrays
    rows: int
    training_rows: int
    features: Path
    requests: Path | None
    representative: Path
    saved_model: Path
    out: Path
    scratch: Path
    converter: Converter
    modules: Sequence[Mapping[str, str]]
    timed: bool

    @classmethod
    def prepare(
        cls,
        model: keras.Model,
        held_out: Samples,
        training: Samples,
        *,
        preparation: Preparation | None,
        class_names: Sequence[str] | None,
        decode_images: DecodeImages | None,
        saved_model: Path,
        timed: bool,
        out: Path,
        scratch: Path,
        converter: Converter,
    ) -> Bench:
        """Ask the model the rows to prove with, and lay them out in `scratch` for the converter's process.

        Raises:
            ExportFailedError: there is no row to prove with, or to calibrate with.
        """
        if not held_out.rows:
            raise ExportFailedError("saved_model", "no held-out row to prove it with; hold some rows out")
        if not training.rows:
            raise ExportFailedError("saved_model", "no training row to calibrate with")
        rows, training_rows = _filled(held_out, training)
        requests = None
        if rows.requests is not None:
            requests = write_arrays(scratch / "requests.npz", rows.requests)
        endpoint = Endpoint.of(
            model, rows.features, preparation, class_names=class_names, decode_images=decode_images
        )
        features = endpoint.bind(rows.features)
        calibration = endpoint.bind(_first(training.features, CALIBRATION_ROWS))
        return cls(
            endpoint=endpoint,
            expected=endpoint.predict(features, BATCH_SIZE),
            targets=_first(endpoint.bind_targets(held_out.targets), PROOF_ROWS),
            rows=rows.rows,
            training_rows=training_rows,
            features=write_arrays(scratch / "features.npz", features),
            requests=requests,
            representative=write_arrays(scratch / "representative.npz", calibration),
            saved_model=saved_model,
            out=out,
            scratch=scratch,
            converter=converter,
            modules=modules_of(model),
            timed=timed,
        )

    def make(self, entry: Entry) -> str:
        """Write or convert one artifact and return its recipe."""
        format_ = entry.maker
        destination = self.out / entry.path
        if isinstance(format_, WrittenFormat):
            return self._write(entry, self.endpoint, destination, name=entry.name)
        source, differing = self._source(entry)
        request = {
            "do": "convert",
            "format": entry.format,
            "options": entry.options.model_dump(mode="json"),
            "saved_model": str(source),
            "destination": str(destination),
            "representative": str(self.representative),
        }
        recipe = self.converter.ask(request, artifact=entry.name)["recipe"]
        return ", ".join(filter(None, [recipe, differing]))

    def write_warmup(self, saved_model: Entry) -> None:
        """Have TensorFlow Serving answer a few of the rows, by each signature, before its first caller."""
        rows = {SIGNATURE: self.features}
        if self.requests is not None:
            rows = {SIGNATURE: self.requests, CORE: self.features}
        rows |= {name: self._sent(name) for name in self._further(saved_model)}
        try:
            write_warmup(self.out, {signature: read_arrays(file) for signature, file in rows.items()})
        # TensorFlow writes it, and has errors of its own for a full disk.
        except Exception as error:
            raise making_failed(SAVED_MODEL, f"{type(error).__name__}: {error}") from error

    def prove(self, entry: Entry, recipe: str) -> Artifact:
        """Compare one artifact with the model, and describe it."""
        path = self.out / entry.path
        asked = self.features
        if entry.format == SAVED_MODEL:
            # All of its signatures; what is told of it is the one that is served.
            if self.requests is not None:
                self._compared(entry, self.features, signature=CORE)
                asked = self.requests
            for name, signature in self._further(entry).items():
                self._prove_further(entry, name, signature, read_arrays(asked))
        reply, parity = self._compared(entry, asked)
        size_bytes, sha256 = measure(path)
        return Artifact(
            name=entry.name,
            format=entry.format,
            path=entry.path,
            size_bytes=size_bytes,
            sha256=sha256,
            options=entry.options.model_dump(mode="json"),
            runtime=reply["runtime"],
            recipe=recipe,
            parity=parity,
            latency_ms={int(rows): Latency(**figures) for rows, figures in reply["latency_ms"].items()},
            load_ms=reply["load_ms"],
            signature=reply["signature"],
        )

    def _further(self, saved_model: Entry) -> Mapping[saved_model_format.SignatureName, FurtherSignature]:
        options = saved_model.options
        assert isinstance(options, saved_model_format.Options)
        return further_signatures(self.endpoint, options.signatures)

    def _sent(self, signature: str) -> Path:
        """Say where the rows lie in the form in which a further signature is sent them."""
        return self.scratch / f"{signature}.sent.npz"

    def _prove_further(self, entry: Entry, name: str, signature: FurtherSignature, columns: Arrays) -> None:
        """Compare what a further signature answers with what the model does to the rows that were sent it."""
        columns = _first(columns, FURTHER_ROWS)
        carried = signature.carried(columns)
        answers = _first(self.expected, FURTHER_ROWS)
        if any(carried[column] is not columns[column] for column in columns):
            answers = self.endpoint.predict_request(carried, BATCH_SIZE)
        expected = signature.expected(answers)
        sent = write_arrays(self._sent(name), {signature.INPUT: signature.sent(carried)})
        self._compared(entry, sent, signature=name, expected=expected)

    def _source(self, entry: Entry) -> tuple[Path, str]:
        """Return the SavedModel to convert from, and what sets it apart from the version's own."""
        format_ = entry.maker
        if not isinstance(format_, StandInFormat):
            return self.saved_model, ""
        try:
            stand_in = format_.stand_in(self.endpoint, entry.options)
        except ValueError as error:
            raise ExportFailedError(entry.name, str(error)) from error
        if stand_in is None:
            return self.saved_model, ""
        # No entry's name has a dot.
        folder = self.scratch / f"{stand_in.name}.stand-in"
        if not folder.exists():
            (saved_model,) = read_entries([{"format": SAVED_MODEL}])
            try:
                self._write(saved_model, stand_in.endpoint, folder, name=entry.name)
            except ExporterError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return folder, stand_in.recipe

    def _write(self, entry: Entry, endpoint: Endpoint, destination: Path, *, name: str) -> str:
        """Write a format from the live model; what goes wrong is told of the artifact `name`."""
        assert isinstance(entry.maker, WrittenFormat)
        try:
            return entry.maker.write(endpoint, destination, entry.options)
        except ExporterError:
            raise
        # Keras, TensorFlow and a user's own layers raise whatever they like; the name is added here.
        except Exception as error:
            raise making_failed(name, f"{type(error).__name__}: {error}") from error

    def _compared(
        self, entry: Entry, rows: Path, *, signature: str | None = None, expected: Arrays | None = None
    ) -> tuple[dict[str, Any], Parity]:
        """Ask an artifact all rows, and hold its answers against the model's, or against those expected.

        Of several signatures one may be named: its outputs are then told as `signature/output`.

        Raises:
            ExportMismatchError: they differ.
        """
        answers = self.scratch / entry.name
        request = {
            "do": "prove",
            "format": entry.format,
            "path": str(self.out / entry.path),
            "features": str(rows),
            "answers": str(answers),
            "modules": self.modules,
            "timed": self.timed and signature is None,
            **({} if signature is None else {"signature": signature}),
        }
        reply = self.converter.ask(request, artifact=entry.name)
        runs = {size: read_arrays(answers / f"{size}.npz") for size in reply["batch_sizes"]}
        expected, targets = (self.expected, self.targets) if expected is None else (expected, {})
        if signature is not None:
            expected, targets, *told = (
                {f"{signature}/{name}": array for name, array in arrays.items()}
                for arrays in (expected, targets, *runs.values())
            )
            runs = dict(zip(runs, told, strict=True))
        rows_told = min(len(array) for array in expected.values())
        training_rows = max(0, rows_told - (self.rows - self.training_rows))
        parity = compare(expected, runs, entry.allowed, targets, training_rows=training_rows)
        if not parity.agrees:
            raise ExportMismatchError(entry.name, parity)
        return reply, parity


def _filled(held_out: Samples, training: Samples) -> tuple[Samples, int]:
    """Return the rows to prove with, and how many of them, the last ones, are training rows."""
    held = min(held_out.rows, PROOF_ROWS)
    added = min(max(0, FEWEST_ROWS - held), training.rows)

    def joined(some: Arrays, others: Arrays) -> Arrays:
        return {name: np.concatenate([array[:held], others[name][:added]]) for name, array in some.items()}

    requests = None
    if held_out.requests is not None:
        requests = joined(held_out.requests, training.requests or {})
    return Samples(joined(held_out.features, training.features), requests=requests), added


def _first(arrays: Arrays, rows: int) -> Arrays:
    return {name: array[:rows] for name, array in arrays.items()}
