"""Prepare a site: `python -m service.init` migrates the database, makes the token, writes models.config.

It runs to its end before anything else starts, and is harmless to repeat. models.config must be there
(empty, at first) before a TensorFlow Serving starts that polls it.
"""

from __future__ import annotations

import sys

from service.auth import NoTokenError, TokenFile
from service.records import Records
from service.served import announce
from service.settings import Settings
from serving.store import Store


def main() -> int:
    """Prepare what the environment's settings name."""
    settings = Settings()
    for folder in (settings.home, settings.jobs_folder, settings.data_root, settings.store_root):
        folder.mkdir(parents=True, exist_ok=True)
    records = Records(settings.effective_database_url)
    records.database.migrate()
    announce(records, Store(settings.store_root))
    records.close()
    try:
        made = TokenFile(settings.token_path).ensure()
    except NoTokenError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    if made is not None:
        print(f"A token was made, shown this once: {made}\nIt is kept in {settings.token_path}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
