"""What an address may hold: a name that could not have been given names nothing, so it answers 404.

No database is asked for it: PostgreSQL takes no NUL in a text, and no integer beyond its column's bits.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from service.jobs import MODEL_NAME

LARGEST_INT = 2**31 - 1
"""What the integer columns hold."""

JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
DatasetName = Annotated[str, Path(pattern=MODEL_NAME, description="Its id, or its unique name.")]
ModelName = Annotated[str, Path(pattern=MODEL_NAME)]
VersionNumber = Annotated[int, Path(ge=1, le=LARGEST_INT)]
Label = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,63}$")]
