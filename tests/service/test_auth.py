from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from service.auth import NoTokenError, TokenFile


def test_the_token_that_was_made_opens_and_no_other(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "token")
    token = file.ensure()
    assert file.accepts(f"Bearer {token}")
    assert file.accepts(f"bearer {token}")
    for wrong in (None, "", "Bearer", "Bearer ", "Bearer é", f"Bearer {token}x", f"Basic {token}"):
        assert not file.accepts(wrong), wrong


def test_a_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "secrets" / "token")
    assert file.ensure() is not None
    assert file.ensure() is None
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert list(file.path.parent.iterdir()) == [file.path]


def test_an_empty_token_file_opens_nothing(tmp_path: Path) -> None:
    """A power cut, a full disk or a mount that isn't there leaves one."""
    (tmp_path / "token").touch()
    assert not TokenFile(tmp_path / "token").accepts("Bearer ")


def test_an_empty_token_file_is_told_at_the_start_and_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    with pytest.raises(NoTokenError, match="is empty; put a token in it"):
        TokenFile(tmp_path / "token").ensure()
    assert (tmp_path / "token").read_bytes() == b""


def test_a_token_file_that_is_missing_opens_nothing(tmp_path: Path) -> None:
    assert not TokenFile(tmp_path / "token").accepts("Bearer fsk_guess")


def test_a_draft_of_the_token_that_a_kill_left_does_not_stop_the_next_start(tmp_path: Path) -> None:
    """In a container the next start has the same process id."""
    (tmp_path / f".token-{os.getpid()}").touch()
    assert TokenFile(tmp_path / "token").ensure() is not None
