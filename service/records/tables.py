"""The tables of the record of truth.

Wall-clock columns (`*_at`) are seconds since the epoch, UTC, and only for people to read. What is decided by
time, leases, bells, limits and back-off, stands in `lease_until`, `rung_at`, `since` and `not_before`, on the
clock of `database.Database.now`, each with the boot that it counts from.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

jobs = Table(
    "jobs",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),  # submission number
    Column("id", String(40), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(64)),  # the model's name
    Column("slot", String(16), nullable=False),  # the kind of slot that can run it: device or short
    Column("priority", Integer, nullable=False, default=0),
    Column("status", String(16), nullable=False),
    Column("phase", String(24)),
    Column("spec", JSON, nullable=False),
    Column("spec_digest", String(71), nullable=False),
    Column("dataset_id", String(40)),
    Column("dataset_digest", String(71)),
    Column("seed", BigInteger),
    Column("labels", JSON, nullable=False),
    # The claim: who runs it, until when, and the fencing token that every later write must name.
    Column("token", Integer, nullable=False, default=0),
    Column("owner", String(128)),
    Column("lease_until", Float),
    Column("lease_boot", String(40)),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("max_attempts", Integer, nullable=False, default=3),
    Column("max_pending_s", Float),
    Column("max_runtime_s", Float),
    Column("memory_bytes", BigInteger),
    Column("deaths", Integer, nullable=False, default=0),  # that ended by themselves without a new checkpoint
    Column("since", Float),  # when it was queued or claimed; null in a new row without a max_pending_s
    Column("since_boot", String(40)),
    Column("not_before", Float),  # a back-off: no claim before this, counted like `since`
    Column("ran_s", Float, nullable=False, default=0.0),  # by attempts that have ended
    Column("rung_at", Float),
    Column("last_event", Integer, nullable=False, default=0),
    Column("progress", JSON),
    Column("pipeline", JSON),  # how the data pipeline keeps up
    Column("metrics", JSON),
    Column("resources", JSON),
    Column("result", JSON),
    Column("error", JSON),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Index("ix_jobs_waiting", "slot", "status", "priority", "seq"),
    Index("ix_jobs_name", "name"),
    sqlite_autoincrement=True,
)

transitions = Table(
    "transitions",
    metadata,
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("reason", String, nullable=False, default=""),
    Column("at", Float, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("child_n", Integer),  # the number the child gave it; null for the service's own events
    Column("data", JSON, nullable=False),
    Column("at", Float, nullable=False),
    UniqueConstraint("job_id", "attempt", "child_n"),
)

curve_points = Table(
    "curve_points",
    metadata,
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("metrics", JSON, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("body_digest", String(71), nullable=False),
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Float, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("name", String(64), unique=True),
    Column("uri", String(2000)),  # where it comes from, secrets included; null for an upload
    Column("digest", String(71)),  # null until it was fetched; from then on the same
    Column("size_bytes", BigInteger),
    Column("fingerprint", String(64)),  # of what is read in place; null where the data root has a copy
    Column("filename", String(255), nullable=False),
    Column("kind", String(24)),  # the source that reads it; null until ingest has found it
    Column("schema", JSON),
    Column("statistics", JSON),
    Column("anomalies", JSON),
    Column("ingest_id", String(40)),  # the row that fetches or reads it: until then, its status is this one's
    Column("created_at", Float, nullable=False),
    Index("ix_datasets_digest", "digest"),
    sqlite_autoincrement=True,
)

dataset_uses = Table(
    "dataset_uses",
    metadata,
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("use", String(16), primary_key=True),  # data, validation or test
    Column("dataset_id", String(40), nullable=False),
    Index("ix_dataset_uses_dataset_id", "dataset_id"),
)

models = Table(
    "models",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("last_number", Integer, nullable=False),  # never goes back, so a number is never used again
    Column("created_at", Float, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", String(64), ForeignKey("models.name"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("job_id", String(40), nullable=False, unique=True),
    Column("status", String(16), nullable=False),  # reserved or published
    Column("manifest", JSON),
    Column("created_at", Float, nullable=False),
    Column("published_at", Float),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("assigned", Integer),  # the version that models.config names by it
    Column("updated_at", Float, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.number"]),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("capabilities", JSON, nullable=False),
    Column("seen_at", Float, nullable=False),  # on the clock of `now`
    Column("seen_boot", String(40), nullable=False),
    Column("started_at", Float, nullable=False),
)
