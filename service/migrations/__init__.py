"""Alembic migrations of the record of truth."""
