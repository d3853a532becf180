"""The API's bearer token: made at the first start, kept in a file that only its owner reads."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path


class TokenFile:
    """A file with one token in it, mode 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ensure(self) -> str | None:
        """Make the token if there is none; the new token, or None if one was there.

        Two processes that start at once agree: the file is written whole, then linked under its name.
        """
        if self.path.exists():
            return None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        token = "fsk_" + secrets.token_urlsafe(32)
        temporary = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            return None
        finally:
            temporary.unlink()
        return token

    def read(self) -> str:
        """The token."""
        return self.path.read_text().strip()

    def accepts(self, authorization: str | None) -> bool:
        """Whether the header is `Bearer <the token>`; the comparison takes the same time for any guess."""
        scheme, _, given = (authorization or "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), self.read().encode()
        )
