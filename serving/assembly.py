"""One server put together from its flags: models, the thread that keeps them, and the two skins."""

import asyncio
import contextlib
import gc
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

# Read once, when TensorFlow is imported, which the protos below do: its notes on CPU features are not ours.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from serving import batching_parameters, config_file, monitoring, peers
from serving.asgi import Application
from serving.batching_parameters import BatchingParameters
from serving.config_file import ModelSettings
from serving.dataplane import DataPlane
from serving.errors import Code, ModelConfigError, RequestError
from serving.flags import Flags
from serving.health import Health
from serving.lifecycle import Models
from serving.loader import LoadOptions, load
from serving.methods import Methods
from serving.monitoring import Counts, Metrics
from serving.pages import Pages
from serving.profiler import Profiler
from serving.rest import Rest
from serving.rpc import Rpc
from serving.servable import Servable
from serving.statuses import Statuses

_log = logging.getLogger(__name__)

# A process that stands still would keep a scraper waiting for ever.
_COUNTING_S = 5.0


class Assembly:
    """The parts of one server; `start` loads what is configured, `stop` gives everything back."""

    def __init__(self, flags: Flags) -> None:
        """Read the configuration.

        Raises:
            ModelConfigError: it doesn't parse or contradicts itself.
        """
        self._flags = flags
        self._options = _load_options(flags)
        self._settings = _configured(flags)
        self._models = Models(
            self._load,
            max_retries=flags.max_num_load_retries,
            retry_interval_s=flags.load_retry_interval_micros / 1e6,
            load_threads=flags.num_load_threads,
            unload_threads=flags.num_unload_threads,
            on_change=self._tell,
        )
        self._metrics = Metrics()
        self._peers = peers.connect(
            self._telling,
            {peers.RELOAD: self._reload, peers.METRICS: lambda _: self._metrics.counts().to_json()},
        )
        # What was asked for over gRPC holds until the file changes, in who comes late as well.
        late = self._peers.config
        self._models.configure(self._settings if late is None else config_file.parse(late))
        self.plane = DataPlane(
            self._models,
            self._reload_all,
            threads=flags.grpc_max_threads,
            labels_may_wait=flags.allow_version_labels_for_unavailable_models,
            batching_parameters=_batching_parameters(flags),
            peers=self._peers,
        )
        self.methods = Methods(
            Rpc(self.plane, as_content=flags.enable_serialization_as_tensor_content),
            self._metrics,
            Health(self.plane) if flags.enable_grpc_healthcheck_service else None,
            Profiler() if flags.enable_profiler else None,
        )
        file = flags.monitoring_config_file
        pages = Pages(
            self.plane,
            self._counts,
            metrics_path=monitoring.path_of(Path(file)) if file else None,
            cors=flags.rest_api_enable_cors_support,
        )
        self.application = Application(
            Rest(self.plane, self._metrics),
            self.methods,
            pages,
            rest_timeout_s=flags.rest_api_timeout_in_ms / 1000,
        )
        self._stopping = threading.Event()
        self._reconciling = threading.Lock()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def start(self) -> None:
        """Load every configured model once, then keep them current on a thread of their own.

        A model that fails to load doesn't hold back the others: its state tells, and it is tried again.
        """
        self._peers.listen()
        self._reconcile()
        # What TensorFlow's import and the models left stays: 400,000 objects, which Python would look through
        # again and again, 0.1 s each time, while every request waits.
        gc.collect()
        gc.freeze()
        self.plane.started = True
        self._tell()
        self._keeper.start()

    def stop(self, timeout_s: float) -> bool:
        """Stop looking for versions and unload; False when a load is still running after the time."""
        self.plane.drain()
        self._stopping.set()
        self._models.changed.set()
        if self._keeper.ident is None:
            return False
        self._keeper.join(timeout_s)
        # A reload over gRPC may be loading, on a thread of its own.
        if self._keeper.is_alive() or not self._reconciling.acquire(timeout=timeout_s):
            return False
        self._models.close()
        return True

    def _load(self, path: Path) -> Servable:
        return load(path, self._options)

    def _telling(self) -> tuple[bool, Statuses]:
        return self.plane.started, self._models.all_status()

    def _tell(self) -> None:
        self._peers.tell()

    async def _reload_all(self, settings: Sequence[ModelSettings]) -> None:
        await self._peers.ask(peers.RELOAD, config_file.to_text(settings))

    def _reload(self, config: str) -> None:
        # The file as it stands is older than the reload, whether this process has noticed it or not.
        with contextlib.suppress(ModelConfigError):
            self._settings = _configured(self._flags)
        new = self._models.configure(config_file.parse(config))
        self._reconcile()
        self._models.check_available(new)

    async def _counts(self) -> Counts:
        total = Counts()
        try:
            async with asyncio.timeout(_COUNTING_S):
                told = await self._peers.ask(peers.METRICS)
        except TimeoutError as error:
            raise RequestError(Code.UNAVAILABLE, "a process doesn't tell what it counted") from error
        for counts in told:
            total.add(Counts.from_json(counts))
        return total

    def _reconcile(self) -> None:
        with self._reconciling:
            self._models.reconcile()

    def _keep(self) -> None:
        files_s, config_s = (
            self._flags.file_system_poll_wait_seconds,
            self._flags.model_config_file_poll_wait_seconds,
        )
        config_due = time.monotonic() + config_s
        while not self._stopping.is_set():
            waits = [each for each in (files_s, config_s) if each > 0]
            self._models.changed.wait(min(waits, default=None))
            self._models.changed.clear()
            if self._stopping.is_set():
                return
            if config_s > 0 and time.monotonic() >= config_due:
                self._reread()
                config_due = time.monotonic() + config_s
            try:
                self._reconcile()
            except Exception:
                # The thread that keeps the models must outlive whatever a damaged folder does to it.
                _log.exception("reconcile_failed")

    def _reread(self) -> None:
        try:
            settings = _configured(self._flags)
        except ModelConfigError as error:
            _log.error("model_config_refused error=%s", error)
            return
        if settings != self._settings:
            self._settings = settings
            self._models.configure(settings)
            self._peers.supersede()
            _log.info("model_config_read models=%d", len(settings))


def _configured(flags: Flags) -> list[ModelSettings]:
    if flags.model_config_file:
        return config_file.read(Path(flags.model_config_file))
    return [ModelSettings(flags.model_name, Path(flags.model_base_path))]


def _batching_parameters(flags: Flags) -> BatchingParameters | None:
    if not flags.enable_batching:
        return None
    if not flags.batching_parameters_file:
        return BatchingParameters()
    return batching_parameters.read(Path(flags.batching_parameters_file))


def _load_options(flags: Flags) -> LoadOptions:
    both = flags.tensorflow_session_parallelism
    return LoadOptions(
        tags=tuple(flags.saved_model_tags.split(",")),
        intra_op_threads=both or flags.tensorflow_intra_op_parallelism,
        inter_op_threads=both or flags.tensorflow_inter_op_parallelism,
        gpu_memory_fraction=flags.per_process_gpu_memory_fraction,
        check_method_names=flags.enable_signature_method_name_check,
        prefer_tflite=flags.prefer_tflite_model,
        warm=flags.enable_model_warmup,
        warmup_iterations=max(1, flags.num_request_iterations_for_warmup),
        per_model_batching=flags.enable_batching and flags.enable_per_model_batching_parameters,
    )
