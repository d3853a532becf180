"""Data sets by URI, and which jobs use which data sets."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite makes the table anew, and would forget what isn't told.
    with op.batch_alter_table("datasets", table_kwargs={"sqlite_autoincrement": True}) as batch_op:
        batch_op.add_column(sa.Column("uri", sa.String(length=2000), nullable=True))
        batch_op.add_column(sa.Column("fingerprint", sa.String(length=64), nullable=True))
        batch_op.alter_column("digest", existing_type=sa.String(length=71), nullable=True)
        batch_op.alter_column("size_bytes", existing_type=sa.BigInteger(), nullable=True)
        batch_op.create_index("ix_datasets_digest", ["digest"])
    op.create_table(
        "dataset_uses",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("use", sa.String(length=16), nullable=False),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_dataset_uses_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "use", name=op.f("pk_dataset_uses")),
    )
    op.create_index("ix_dataset_uses_dataset_id", "dataset_uses", ["dataset_id"])
    op.execute(
        "INSERT INTO dataset_uses (job_id, use, dataset_id) SELECT id, 'data', dataset_id FROM jobs "
        "WHERE dataset_id IS NOT NULL AND kind IN ('train', 'evaluate', 'validate')"
    )


def downgrade() -> None:
    op.drop_table("dataset_uses")
    op.execute("DELETE FROM datasets WHERE digest IS NULL")
    with op.batch_alter_table("datasets", table_kwargs={"sqlite_autoincrement": True}) as batch_op:
        batch_op.drop_index("ix_datasets_digest")
        batch_op.alter_column("size_bytes", existing_type=sa.BigInteger(), nullable=False)
        batch_op.alter_column("digest", existing_type=sa.String(length=71), nullable=False)
        batch_op.drop_column("fingerprint")
        batch_op.drop_column("uri")
