"""Rows as a model takes them: under its own names, in its own dtypes; and what it answers to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trainer.architecture import inputs_of, outputs_of
from trainer.errors import SpecUnbuildableError
from trainer.judging import judge
from trainer.pipeline import PipelineOptions, evaluation_dataset
from trainer.samples import Samples, Splits

if TYPE_CHECKING:
    import keras
    import numpy as np

    from trainer.compiling import CompileOptions
    from trainer.fitted import Fitted
    from trainer.preprocessing import Preprocessing

HELD_OUT_ROWS = 4096
REPRESENTATIVE_ROWS = 256


def named_as(model: keras.Model, splits: Splits) -> Splits:
    """Call a single input and a single target as the model calls them; several must have its names already.

    Raises:
        SpecUnbuildableError: the targets' names aren't the model's outputs.
    """
    takes, gives = [info.name for info in inputs_of(model)], [info.name for info in outputs_of(model)]
    check_targets(gives, list(splits.train.targets))

    return splits if len(takes) > 1 else splits.named({next(iter(splits.train.shapes)): takes[0]})


def check_targets(gives: list[str], targets: list[str]) -> None:
    """Compare the names of the targets with those of the outputs; a single one may be called anything.

    Raises:
        SpecUnbuildableError: they differ.
    """
    misnamed = len(gives) > 1 and set(targets) != set(gives)
    if targets and (len(targets) != len(gives) or misnamed):
        raise SpecUnbuildableError(
            f"the model's outputs are called {', '.join(gives)}, data.label gives {', '.join(targets)}",
            remedy="Give data.label as an object with the model's output names.",
            location={"pointer": "/data/label"},
        )


def cast(model: keras.Model, samples: Samples) -> Samples:
    """Prepare the rows, in the dtypes that the model takes."""
    samples = samples.ready()
    dtypes = {info.name: info.dtype for info in inputs_of(model)}
    features = {name: array.astype(dtypes[name], copy=False) for name, array in samples.features.items()}
    return replace(samples, features=features)


@dataclass(frozen=True)
class ProofRows:
    """Rows by which exports are proven, in the dtypes that the model takes.

    `held_out` are up to 4096 labelled rows of `part`: of the test part if there is one, else of validation,
    else of training. `representative` are features of up to 256 training rows. Where requests' columns are
    prepared, `preprocessing` does it, and `requests` and `representative_requests` are the first rows of both
    as a request sends them.
    """

    part: str
    held_out: Samples
    representative: Mapping[str, Any]
    preprocessing: Preprocessing | None
    requests: Mapping[str, np.ndarray] | None
    representative_requests: Mapping[str, np.ndarray] | None


@dataclass(frozen=True)
class Built:
    """A model before it is trained, with a training row as it takes it, and what was learnt of the columns.

    `row` is (1, ...) by input; `preprocessing` prepares requests' columns, where they are prepared.
    """

    model: keras.Model
    row: Mapping[str, np.ndarray]
    preprocessing: Preprocessing | None
    fitted: Fitted | None


def built(model: keras.Model, splits: Splits) -> Built:
    """Describe a model that will be trained on these rows."""
    row = cast(model, splits.train.take(slice(1))).features
    return Built(model, row, _preparing(splits), splits.fitted)


def proof_rows(model: keras.Model, splits: Splits) -> ProofRows:
    """Choose the rows by which the model's exports are proven."""
    part, held_out = next((name, part) for name, part in splits.by_use() if part is not None)
    return ProofRows(
        part=part,
        held_out=cast(model, held_out.take(slice(HELD_OUT_ROWS))),
        representative=cast(model, splits.train.take(slice(REPRESENTATIVE_ROWS))).features,
        preprocessing=_preparing(splits),
        requests=splits.requests.get(part),
        representative_requests=splits.requests.get("train"),
    )


def _preparing(splits: Splits) -> Preprocessing | None:
    """The preprocessing, where requests' columns are not the model's inputs already."""
    preprocessing = splits.preprocessing
    return preprocessing if preprocessing and preprocessing.prepares else None


def judged(
    model: keras.Model, how: CompileOptions, rows: Samples, options: PipelineOptions
) -> dict[str, Any]:
    """Say how the model does on these rows, by output (`trainer.judging`); their answers fit into memory."""
    dtypes = {info.name: info.dtype for info in inputs_of(model)}
    answers = model.predict(evaluation_dataset(rows, dtypes=dtypes, options=options), verbose=0)
    if not isinstance(answers, Mapping):
        names = [info.name for info in outputs_of(model)]
        answers = dict(zip(names, answers if isinstance(answers, list) else [answers], strict=True))
    targets = rows.whole_targets()
    if len(targets) == 1:  # which may be called otherwise than the output
        targets = {next(iter(answers)): next(iter(targets.values()))}
    # In the order of the outputs, which is that of a list of losses.
    targets = {name: targets[name] for name in answers if name in targets}
    return judge(how, targets, answers)
