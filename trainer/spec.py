"""What is to be trained, as data: checked here as far as it can be without Keras, every fault at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PlainValidator,
    SerializeAsAny,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from trainer.architecture import PLUGIN, VERSION, ModelOptions, architectures
from trainer.callback import CallbackOptions, callbacks
from trainer.compiling import CompileOptions
from trainer.forms import (
    ByKind,
    Count,
    Fault,
    Number,
    Seed,
    SpecModel,
    faults_of,
    invalid,
    nearest,
)
from trainer.precision import Precision
from trainer.source import DataOptions, sources
from trainer.strategy import Strategy

__all__ = [
    "CallbackSpec",
    "CheckpointOptions",
    "CompileOptions",
    "DataOptions",
    "EvaluateSpec",
    "ExportWeights",
    "FitOptions",
    "InspectSpec",
    "ModelOptions",
    "ResourceOptions",
    "SpecModel",
    "TrainSpec",
]


class ExportWeights(StrEnum):
    """Which epoch's weights are exported."""

    BEST = "best"
    """Those of the best epoch by validation loss, or as a callback monitors it."""
    LAST = "last"
    """Those of the last epoch."""


_NEEDLESS = {
    "BackupAndRestore": "every job is backed up and resumed; `checkpoint` says how often",
    "OrbaxCheckpoint": "every job is checkpointed; `checkpoint` says how often",
    "History": "every job keeps its history: GET /v1/jobs/{id}/metrics",
    "ProgbarLogger": "every job tells its progress: GET /v1/jobs/{id}/events",
    "RemoteMonitor": "it sends to addresses of its own; read GET /v1/jobs/{id}/events as a stream instead",
    "LambdaCallback": "code doesn't arrive in a spec: ask the operator for a plugin",
}
"""Keras's callbacks that a job does without, and why."""


class CallbackSpec(SpecModel):
    """A callback under Keras's name, with Keras's arguments."""

    class_name: str
    config: SerializeAsAny[CallbackOptions]


def _callback(value: Any) -> CallbackSpec:  # noqa: ANN401  # not yet validated
    if isinstance(value, CallbackSpec):
        return value
    if not isinstance(value, Mapping):
        raise invalid("callback", [Fault((), "expected an object with class_name and config")], value)
    faults = [Fault((key,), f"unknown field {key!r}{nearest(str(key), CallbackSpec.model_fields)}")
              for key in value.keys() - CallbackSpec.model_fields.keys()]  # fmt: skip
    name = value.get("class_name")
    if not isinstance(name, str) or name not in callbacks():
        said = ("missing", "missing")
        if name is not None:
            unknown = f"unknown callback {name!r}{nearest(str(name), callbacks())}"
            said = (_NEEDLESS.get(str(name), unknown), "spec")
        raise invalid("callback", [*faults, Fault(("class_name",), *said)], value)
    options = None
    try:
        options = callbacks()[name].Options.model_validate(value.get("config", {}))
    except ValidationError as error:
        faults += faults_of(error, ("config",))
    if faults or options is None:
        raise invalid("callback", faults, value)
    return CallbackSpec(class_name=name, config=options)


_CALLBACK_SCHEMA = {
    "type": "object",
    "properties": {"class_name": {"enum": sorted(callbacks())}, "config": {"type": "object"}},
    "required": ["class_name"],
    "additionalProperties": False,
}


ClassWeight = Annotated[dict[int, Annotated[Number, Field(ge=0)]], Field(min_length=1)]


class FitOptions(SpecModel):
    """Keras's `fit`: how long, with which callbacks, and how much each class counts."""

    epochs: Annotated[Count, Field(le=1_000_000)] = 1
    callbacks: tuple[
        Annotated[CallbackSpec, PlainValidator(_callback), WithJsonSchema(_CALLBACK_SCHEMA)], ...
    ] = ()
    class_weight: ClassWeight | Literal["balanced"] | None = None

    @field_validator("class_weight", mode="wrap")
    @classmethod
    def _weights_or_balanced(cls, value: Any, _handler: object) -> Any:  # noqa: ANN401  # pydantic's signature
        if value is None or value == "balanced":
            return value
        if not isinstance(value, Mapping):
            raise ValueError(  # noqa: TRY004 - what pydantic takes
                'expected an object from class numbers to weights, or "balanced"'
            )
        return TypeAdapter(ClassWeight).validate_python(value)


class CheckpointOptions(SpecModel):
    """When a running epoch is checkpointed: after so many steps or seconds, whichever comes first.

    Both count from the checkpoint before. The end of an epoch is a checkpoint in any case.
    """

    every_steps: Count | None = None
    every_s: Annotated[Number, Field(gt=0)] = 60


class ResourceOptions(SpecModel):
    """What training runs on, and in which precision."""

    precision: Precision = Precision.FLOAT32
    strategy: Strategy = Strategy.AUTO


Model = Annotated[
    ModelOptions, ByKind("model", {kind: each.Options for kind, each in architectures().items()})
]


Data = Annotated[DataOptions, ByKind("data", {kind: each.Options for kind, each in sources().items()})]


class InspectSpec(SpecModel):
    """A model to be described; `inputs` are shapes of one row by input name, `compile` has its optimizer."""

    model: Model
    inputs: Annotated[dict[str, tuple[Count | None, ...]], Field(min_length=1)] | None = None
    compile: CompileOptions | None = None
    batch_size: Annotated[Count, Field(le=1 << 20)] = 32


class EvaluateSpec(SpecModel):
    """A published model to be scored: on which rows, by which loss and metrics."""

    data: Data
    compile: CompileOptions = CompileOptions()


class TrainSpec(SpecModel):
    """Everything training depends on; the service adds what a job is about (name, exports, limits)."""

    model: Model
    data: Data
    compile: CompileOptions = CompileOptions()
    fit: FitOptions = FitOptions()
    checkpoint: CheckpointOptions = CheckpointOptions()
    resources: ResourceOptions = ResourceOptions()
    export_weights: ExportWeights | None = None
    seed: Seed | None = None

    @classmethod
    def lacking(cls, value: Mapping[str, Any]) -> Iterator[Fault]:
        """Only a plugin may bring its own loss, labels and optimizer; a version may come from one."""
        model, how, data = (value.get(name) for name in ("model", "compile", "data"))
        if isinstance(model, Mapping) and model.get("kind") in (PLUGIN, VERSION):
            return
        if "compile" not in value:
            yield Fault(("compile",), "missing", "missing")
        elif isinstance(how, Mapping) and how.get("loss") is None:
            yield Fault(("compile", "loss"), "missing", "missing")
        if isinstance(data, Mapping) and data.get("label") is None:
            yield Fault(("data", "label"), "missing", "missing")

    @model_validator(mode="after")
    def _callbacks_have_what_they_need(self) -> TrainSpec:
        faults = [
            Fault(
                ("fit", "callbacks", i, "config", "monitor"),
                f"{monitor} needs validation rows: give data.split or data.validation_split, "
                f"or monitor {monitor.removeprefix('val_')}",
            )
            for i, callback in enumerate(self.fit.callbacks)
            if (monitor := getattr(callback.config, "monitor", "")).startswith("val_")
            and not self.data.validates
        ]
        faults += [
            Fault(("fit", "callbacks", i), unmet)
            for i, callback in enumerate(self.fit.callbacks)
            if (unmet := callback.config.unmet(self.compile))
        ]
        names = [callback.class_name for callback in self.fit.callbacks]
        faults += [
            Fault(("fit", "callbacks", i, "class_name"), f"{name} is listed before: one writes for the job")
            for i, name in enumerate(names)
            if name in names[:i] and hasattr(callbacks()[name], "ARTIFACT")
        ]
        if faults:
            raise invalid("spec", faults, self)
        return self
