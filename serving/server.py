"""`fitserve-model-server`: TensorFlow Serving's flags, folders and protocols on one machine."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serving import front, logs
from serving.errors import FlagError, ServingError
from serving.flags import Flags, parse

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT and return 0; 1 when it can't serve, 2 for flags that make no sense."""
    logs.configure()
    try:
        flags, notes = parse(sys.argv[1:] if arguments is None else arguments)
        name, chosen = front.choose(flags.front)
    except FlagError as error:
        _log.error("%s", error)
        return 2
    for note in notes:
        _log.warning("%s", note)
    _log.info("starting front=%s processes=%d", name, flags.processes)
    try:
        front.check_ports(flags)
        _check_files(flags)
        if flags.processes > 1:
            from serving import processes

            return processes.run(replace(flags, front=name))
        return chosen.run(flags)
    except ServingError as error:
        _log.error("%s", error)
        return 1


def _check_files(flags: Flags) -> None:
    # Before TensorFlow is imported, which takes seconds; each is read again where it is used.
    if flags.model_config_file:
        from serving import config_file

        config_file.read(Path(flags.model_config_file))
    if flags.ssl_config_file:
        from serving import tls

        tls.read(Path(flags.ssl_config_file))
    if flags.batching_parameters_file:
        from serving import batching_parameters

        batching_parameters.read(Path(flags.batching_parameters_file))
    if flags.monitoring_config_file:
        from serving import monitoring

        monitoring.path_of(Path(flags.monitoring_config_file))


if __name__ == "__main__":
    sys.exit(main())
