"""Which URIs are allowed, and what of them is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings
from service.uris import NOTHING, Allowed, UriError, id_of, redacted

HOSTS = "data.example.org, 127.0.0.1:8123, inside.example.org=10.1.0.0/16, [::1]:81, s3://bucket, gs://other"


@pytest.mark.parametrize(
    "uri",
    [
        "https://data.example.org/a.csv",
        "http://data.example.org/a.csv?v=2",
        "https://DATA.example.org.:443/a.csv",
        "https://user:secret@data.example.org/a.csv",
        "http://127.0.0.1:8123/a.csv",
        "http://[::1]:81/a.csv",
        "http://inside.example.org/a",
        "s3://bucket/a/b.csv",
        "gs://other/a",
    ],
)
def test_what_the_operator_lists_is_allowed(uri: str) -> None:
    Allowed.of("", HOSTS).check(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/a.csv",
        "https://data.example.org:8443/a.csv",
        "https://data.example.org.evil.org/a.csv",
        "https://data.example.org@evil.org/a.csv",
        "http://127.0.0.1/a.csv",
        "http://localhost:8123/a.csv",
        "http://2130706433:8123/a.csv",
        "http://[::ffff:127.0.0.1]:8123/a.csv",
        "s3://bucket2/a",
        "s3://bucket",
        "s3://user@bucket/a",
        "gs://bucket/a",
        "file:///etc/passwd",
        "ftp://data.example.org/a",
        "data.csv",
        "https:///a.csv",
        "https://data.example.org\\@evil.org/a",
        "https://data.example.org/a\tb",
        "https://data.example.org/a%00b",
        "https://data.example.org/a#b",
        "https://data.example.org:99999/a",
        "http://[data.example.org/a",
    ],
)
def test_nothing_else_is_allowed(uri: str) -> None:
    with pytest.raises(UriError):
        Allowed.of("", HOSTS).check(uri)


def test_a_refusal_says_what_is_allowed_and_by_which_setting() -> None:
    with pytest.raises(UriError, match=r"FITSERVE_DATA_HOSTS: data.example.org, 127.0.0.1:8123") as error:
        Allowed.of("", HOSTS).check("https://evil.org/a?token=secret")
    assert "dataset://" in str(error.value)
    with pytest.raises(UriError, match="FITSERVE_DATA_ROOTS: none"):
        NOTHING.check("file:///data/a.csv")


def test_a_file_is_allowed_below_a_root_and_nowhere_else(tmp_path: Path) -> None:
    root, secret = tmp_path / "open", tmp_path / "open-not" / "secret.csv"
    for folder in (root / "deep", secret.parent):
        folder.mkdir(parents=True)
    secret.write_text("a\n1\n")
    (root / "link.csv").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    (root / "within.csv").symlink_to(root / "deep")
    allowed = Allowed.of(str(root), "")
    for inside in (f"{root}/deep/é b.csv", f"{root}/deep/../a%20b.csv", f"{root}/within.csv", str(root)):
        allowed.check(f"file://{inside}")
    for outside in (
        str(secret),
        f"{root}/../open-not/secret.csv",
        f"{root}/%2e%2e/open-not/secret.csv",
        f"{root}/link.csv",
        f"{root}/folder/secret.csv",
        f"{root}/a%00.csv",
    ):
        with pytest.raises(UriError):
            allowed.check(f"file://{outside}")
    with pytest.raises(UriError):
        allowed.check(f"file://elsewhere{root}/a.csv")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:secret@host/a.csv", "https://***@host/a.csv"),
        ("https://host/a.csv?X-Amz-Signature=secret&v", "https://host/a.csv?X-Amz-Signature=***&***"),
        ("https://a:se/cret@host/", "https://a:se/cret@host/"),
        ("user:secret@host", "***@host"),
        ("file:///a/b.csv", "file:///a/b.csv"),
        ("https://host/a#secret", "https://host/a"),
    ],
)
def test_secrets_are_not_shown(uri: str, shown: str) -> None:
    assert redacted(uri) == shown


def test_a_uri_makes_one_unnamed_data_set() -> None:
    assert id_of("https://host/a") == id_of("https://host/a") != id_of("https://host/b")


@pytest.mark.parametrize(
    "told",
    [{"data_roots": "relative/folder"}, {"data_hosts": "https://host"}, {"data_hosts": "host=10.0.0.0/99"}],
)
def test_a_setting_that_can_not_be_read_is_refused_at_the_start(told: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Settings(**told)
