"""The API's bearer token: made at the first start, kept in a file that only its owner reads."""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


class NoTokenError(RuntimeError):
    """The token file is there, and no token is in it."""


class TokenFile:
    """A file with one token in it, mode 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ensure(self) -> str | None:
        """Make the token if there is no file; the new token, or None if one was there.

        Two processes that start at once agree: the file is written whole, then linked under its name.

        Raises:
            NoTokenError: the file is empty. It may be a mount that isn't there, so it is not written over.
        """
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            token = "fsk_" + secrets.token_urlsafe(32)
            if self._put(token):
                return token
        if not self.path.read_bytes().strip():
            raise NoTokenError(f"{self.path} is empty; put a token in it, or remove it to have one made")
        return None

    def accepts(self, authorization: str | None) -> bool:
        """Whether the header is `Bearer <the token>`; the comparison takes the same time for any guess.

        Nothing is accepted while the file has no token or can't be read.
        """
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        try:
            token = self.path.read_bytes().strip()
        except OSError as error:
            log.warning("token_unreadable", file=str(self.path), error=str(error))
            return False
        return token != b"" and hmac.compare_digest(given.strip().encode(), token)

    def _put(self, token: str) -> bool:
        """Whether it was ours that came first."""
        # mkstemp: mode 0600, under a name that no draft of a killed process has.
        descriptor, draft = tempfile.mkstemp(prefix=f".{self.path.name}-", dir=self.path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(token + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, self.path)
        except FileExistsError:
            return False
        finally:
            Path(draft).unlink()
        return True
