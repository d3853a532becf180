"""The least that a durable POST can be: a FastAPI endpoint that inserts one row and answers its number.

`python -m benchmarks.bare_insert DATABASE_URL PORT` is the peer of POST /v1/jobs in `benchmarks.engine`: the
same database with the same pool, pragmas and commit durability (`service.records.database`), one process, the
same web server. It checks nothing, records no history, answers no body to speak of and rings no bell.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import uvicorn
from fastapi import FastAPI
from sqlalchemy import JSON, Column, Float, Integer, MetaData, Table, insert

from service.records.database import Database

metadata = MetaData()
rows = Table(
    "bare_rows",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("body", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)


def bare_app(database: Database) -> FastAPI:
    """The application over an open database, which gets its one table."""
    metadata.create_all(database.engine)
    app = FastAPI()

    @app.post("/rows", status_code=202)
    def create(body: dict[str, Any]) -> dict[str, int]:
        with database.write() as connection:
            row = insert(rows).values(body=body, created_at=time.time()).returning(rows.c.seq)
            return {"seq": connection.execute(row).scalar_one()}

    return app


def main() -> None:
    """Serve until the end."""
    url, port = sys.argv[1:]
    uvicorn.run(bare_app(Database(url)), host="127.0.0.1", port=int(port), log_config=None, access_log=False)


if __name__ == "__main__":
    main()
