"""Alembic's entry: runs on the engine that `Database.migrate` hands over."""

from alembic import context

from service.records.tables import metadata

with context.config.attributes["engine"].connect() as connection:
    # SQLite: the write lock first. A transaction that reads and then writes fails beside an open writer.
    connection.execution_options(fitserve_write=True)
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
