"""Which models to serve: a ModelServerConfig, checked and turned into plain values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.errors import ModelConfigError


@dataclass(frozen=True)
class Latest:
    """Serve the `count` highest versions."""

    count: int = 1

    def select(self, numbers: Iterable[int]) -> set[int]:
        """Return those of the versions found that are to be served."""
        return set(sorted(numbers)[-self.count :])


@dataclass(frozen=True)
class All:
    """Serve every version there is."""

    def select(self, numbers: Iterable[int]) -> set[int]:
        """Return those of the versions found that are to be served."""
        return set(numbers)


@dataclass(frozen=True)
class Specific:
    """Serve these versions, as far as they exist."""

    versions: frozenset[int]

    def select(self, numbers: Iterable[int]) -> set[int]:
        """Return those of the versions found that are to be served."""
        return set(numbers) & self.versions


@dataclass(frozen=True)
class ModelSettings:
    """One model of the configuration."""

    name: str
    base_path: Path
    policy: Latest | All | Specific = Latest()
    labels: Mapping[str, int] = field(default_factory=dict)


def read(path: Path) -> list[ModelSettings]:
    """Read a configuration file in protobuf text format.

    Raises:
        ModelConfigError: the file can't be read, doesn't parse, or contradicts itself.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelConfigError(f"model config file {path}: {error}") from error
    try:
        config = text_format.Parse(text, ModelServerConfig())
    except text_format.ParseError as error:
        raise ModelConfigError(
            f"Error parsing text-format tensorflow.serving.ModelServerConfig: {path}:{error}"
        ) from error
    return from_proto(config)


def from_proto(config: ModelServerConfig) -> list[ModelSettings]:
    """Check a configuration and return its models.

    Raises:
        ModelConfigError: a model is listed twice, has no absolute path, or isn't TensorFlow's.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise ModelConfigError("custom_model_config is not supported; list the models in model_config_list")
    settings = [_model(each) for each in config.model_config_list.config]
    names = [each.name for each in settings]
    for name in names:
        if names.count(name) > 1:
            raise ModelConfigError(f"Illegal to list model {name} multiple times in config list")
    return settings


def _model(config: ModelServerConfig) -> ModelSettings:
    path = config.base_path.removeprefix("file://")
    if not path.startswith("/"):
        raise ModelConfigError(
            f"Expected model {config.name} to have an absolute path or URI; "
            f"got base_path()={config.base_path}"
        )
    if config.model_platform not in {"", "tensorflow"}:
        raise ModelConfigError(
            f"model {config.name} is of platform {config.model_platform!r}; this server has 'tensorflow'"
        )
    return ModelSettings(config.name, Path(path), _policy(config), dict(config.version_labels))


def _policy(config: ModelServerConfig) -> Latest | All | Specific:
    policy = config.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return All()
        case "specific":
            versions: Sequence[int] = policy.specific.versions
            if not versions:
                raise ModelConfigError(f"model {config.name}: a specific version policy lists no version")
            return Specific(frozenset(versions))
        case _:
            return Latest(policy.latest.num_versions or 1)
