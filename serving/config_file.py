"""Which models to serve: a ModelServerConfig, checked and turned into plain values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.errors import ModelConfigError

PLATFORM = "tensorflow"


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
        return parse(text)
    except text_format.ParseError as error:
        raise ModelConfigError(
            f"Error parsing text-format tensorflow.serving.ModelServerConfig: {path}:{error}"
        ) from error


def parse(text: str) -> list[ModelSettings]:
    """Read a configuration in protobuf text format.

    Raises:
        ModelConfigError: it contradicts itself.
        google.protobuf.text_format.ParseError: it doesn't parse.
    """
    return from_proto(text_format.Parse(text, ModelServerConfig()))


def to_text(settings: Iterable[ModelSettings]) -> str:
    """Return the configuration in protobuf text format, from which `parse` makes the same settings."""
    config = ModelServerConfig()
    config.model_config_list.SetInParent()
    for each in settings:
        added = config.model_config_list.config.add(
            name=each.name,
            base_path=str(each.base_path),
            model_platform=PLATFORM,
            version_labels=each.labels,
        )
        match each.policy:
            case Latest(count):
                added.model_version_policy.latest.num_versions = count
            case All():
                added.model_version_policy.all.SetInParent()
            case Specific(versions):
                added.model_version_policy.specific.versions.extend(sorted(versions))
    return str(text_format.MessageToString(config))


def from_proto(config: ModelServerConfig) -> list[ModelSettings]:
    """Check a configuration and return its models.

    Raises:
        ModelConfigError: a model is listed twice, has no absolute path or no platform, or isn't TensorFlow's.
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
    platform = _platform(config)
    if platform != PLATFORM:
        raise ModelConfigError(
            f"model {config.name} is of platform {platform!r}; this server has 'tensorflow'"
        )
    return ModelSettings(config.name, Path(path), _policy(config), dict(config.version_labels))


def _platform(config: ModelServerConfig) -> str:
    # `model_type` is the deprecated way to say it: 0 for nothing, 1 for TensorFlow, 2 for other platforms.
    if config.model_type and config.model_platform:
        raise ModelConfigError(
            "Illegal setting both ModelServerConfig::model_type (deprecated) "
            "and ModelServerConfig::model_platform."
        )
    if config.model_type > 1:
        raise ModelConfigError(f"ModelServerConfig::model_type choice {config.model_type} not supported.")
    if not config.model_type and not config.model_platform:
        raise ModelConfigError(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) "
            "nor ModelServerConfig::model_platform."
        )
    return str(config.model_platform) or PLATFORM


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
