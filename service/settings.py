"""Every setting of the service, read once from the environment and passed down as an argument."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote, urlsplit

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.uris import Allowed


def _local_folder(url: str) -> str:
    scheme = urlsplit(url).scheme
    if scheme not in ("", "file"):
        raise ValueError(f"must be a folder or a file:// URL. Received: {url!r}")
    return url


def _roots(text: str) -> str:
    Allowed.of(text, "")
    return text


def _hosts(text: str) -> str:
    Allowed.of("", text)
    return text


FolderUrl = Annotated[str, AfterValidator(_local_folder)]


class Settings(BaseSettings):
    """What the processes of fitserve are told, each as FITSERVE_<NAME> in the environment.

    An empty URL means "below `home`": with nothing set, everything lives in one folder of this host.
    """

    model_config = SettingsConfigDict(env_prefix="FITSERVE_", frozen=True, extra="ignore")

    home: Path = Field(
        default_factory=lambda: Path.home() / ".fitserve",
        description="Folder of this host for run files, job folders and whatever has no URL of its own.",
    )
    database_url: str = Field("", description="SQLAlchemy URL; default: SQLite in home.")
    broker_url: str = Field(
        "", description="Celery broker URL; default: the embedded Redis's socket in home."
    )
    store_url: FolderUrl = Field("", description="Root of the model store, shared with TensorFlow Serving.")
    data_url: FolderUrl = Field("", description="Root of the uploaded data sets, shared by API and workers.")
    token_file: Path | None = Field(None, description="File of the API's bearer token; default: home/token.")
    serving_grpc: str = Field("127.0.0.1:8500", description="TensorFlow Serving's gRPC address, host:port.")
    serving_rest: str = Field("http://127.0.0.1:8501", description="TensorFlow Serving's REST URL.")
    public_grpc: str = Field("", description="gRPC address that clients are told; default: serving_grpc.")
    public_rest: str = Field("", description="REST URL that clients are told; default: serving_rest.")
    slots: str = Field("cpu", description="Device slots of a worker: cpu, gpu0;gpu1,gpu2 or tpu.")
    plugins: str = Field(
        "", description="Plugins of the workers, apart by commas: modules, or folders of them (with a /)."
    )
    standby: bool = Field(True, description="Keep a child waiting in each slot, TensorFlow imported: 0.5 GB.")
    lease_s: float = Field(12.0, ge=2, description="Seconds a worker may be silent before its job is taken.")
    grace_s: float = Field(5.0, ge=0, description="Seconds a child has to checkpoint and leave when told to.")
    reconcile_s: float = Field(2.0, gt=0, description="Seconds between two looks for lost bells and leases.")
    max_upload_bytes: int = Field(
        2 * 1024**3, gt=0, description="Largest data set, uploaded or fetched, in bytes."
    )
    data_roots: Annotated[str, AfterValidator(_roots)] = Field(
        "", description="Folders, apart by commas, whose files a job may name as file:///...; read in place."
    )
    data_hosts: Annotated[str, AfterValidator(_hosts)] = Field(
        "",
        description="Hosts, apart by commas, that data may be fetched from: data.example.org, "
        "data.example.org:8443, inside.example.org=10.1.0.0/16, s3://bucket, gs://bucket.",
    )
    fetch_s: float = Field(3600.0, gt=0, description="Seconds that fetching a data set may take.")
    export_s: float = Field(
        600.0, gt=0, description="Seconds that converting one artifact, or proving it, may take."
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @property
    def run_folder(self) -> Path:
        """Where the embedded stack keeps its sockets and endpoints.json."""
        return self.home / "run"

    @property
    def redis_socket(self) -> Path:
        """The embedded Redis's unix socket."""
        return self.run_folder.absolute() / "redis.sock"

    @property
    def jobs_folder(self) -> Path:
        """Where attempts keep their logs, events and checkpoints; shared by the workers of one database."""
        return self.home / "jobs"

    @property
    def store_root(self) -> Path:
        """Root folder of the model store."""
        return _folder(self.store_url, self.home / "store")

    @property
    def data_root(self) -> Path:
        """Root folder of the uploaded data sets."""
        return _folder(self.data_url, self.home / "data")

    @property
    def allowed(self) -> Allowed:
        """The places that data may be named in by URI."""
        return Allowed.of(self.data_roots, self.data_hosts)

    @property
    def token_path(self) -> Path:
        """The file that holds the API's bearer token."""
        return self.token_file or self.home / "token"

    @property
    def effective_database_url(self) -> str:
        """`database_url`, or SQLite below `home`."""
        return self.database_url or f"sqlite:///{quote(str(self.home.absolute() / 'fitserve.db'))}"

    @property
    def effective_broker_url(self) -> str:
        """`broker_url`, or the embedded Redis's unix socket below `home`."""
        return self.broker_url or f"redis+socket://{quote(str(self.redis_socket))}"


def _folder(url: str, default: Path) -> Path:
    if not url:
        return default.absolute()
    parts = urlsplit(url)
    return Path(unquote(parts.path) if parts.scheme == "file" else url).absolute()
