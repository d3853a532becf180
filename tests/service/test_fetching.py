"""Fetching over HTTP from a real server, and what keeps it from going anywhere else."""

from __future__ import annotations

import socket
import time
from ipaddress import ip_address

import pytest

from service.fetching import Bounds, FetchRefusedError, fetch, public
from service.uris import Allowed, UriError
from tests.service.web import TABLE, Web, serving
from trainer.errors import DataUnreachableError

BOUNDS = Bounds(max_bytes=1 << 20, seconds=20)


def got(web: Web, path: str, *, bounds: Bounds = BOUNDS, allowed: str | None = None) -> bytes:
    places = Allowed.of("", web.place if allowed is None else allowed)
    return b"".join(fetch(web.uri(path), places, bounds, lambda: None))


def test_a_file_comes_as_it_is(web: Web) -> None:
    web.files["/a b/é.csv"] = b""
    web.files["/a%20b/%C3%A9.csv"] = TABLE
    assert got(web, "/data.csv?v=1") == got(web, "/a%20b/é.csv") == TABLE
    assert web.asked[0] == ("/data.csv?v=1", web.place)


def test_a_host_that_is_not_listed_is_not_even_asked(web: Web) -> None:
    with pytest.raises(UriError):
        got(web, "/data.csv", allowed="data.example.org")
    assert web.asked == []


def test_a_listed_name_that_leads_inside_is_refused_unless_its_addresses_are_listed(web: Web) -> None:
    uri = f"http://localhost:{web.server_port}/data.csv"
    listed = f"localhost:{web.server_port}"
    with pytest.raises(FetchRefusedError, match="inside this network"):
        list(fetch(uri, Allowed.of("", listed), BOUNDS, lambda: None))
    assert web.asked == []
    both = Allowed.of("", f"{listed}=127.0.0.0/8, {listed}=::1")
    # Where localhost is ::1 besides, nothing listens there and the next address is tried.
    assert b"".join(fetch(uri, both, BOUNDS, lambda: None)) == TABLE
    assert web.asked == [("/data.csv", listed)]


def test_a_redirect_is_not_followed(web: Web) -> None:
    with serving() as inside:
        web.elsewhere = inside.uri("/data.csv?token=secret")
        with pytest.raises(FetchRefusedError, match="redirects are not followed") as error:
            got(web, "/redirect")
        assert inside.asked == []
    assert "secret" not in str(error.value)
    assert not error.value.retryable


@pytest.mark.parametrize("path", ["/told-large", "/endless"])
def test_more_than_the_cap_is_refused(web: Web, path: str) -> None:
    with pytest.raises(FetchRefusedError, match="larger than 1048576 bytes"):
        got(web, path)


@pytest.mark.parametrize("path", ["/slow", "/slow-head"])
def test_a_server_that_drips_is_left_when_the_time_is_over(web: Web, path: str) -> None:
    started = time.monotonic()
    with pytest.raises(DataUnreachableError, match="FITSERVE_FETCH_S") as error:
        got(web, path, bounds=Bounds(max_bytes=1 << 20, seconds=0.5))
    assert time.monotonic() - started < 4
    assert error.value.retryable


@pytest.mark.parametrize("path", ["/slow", "/slow-head"])
def test_who_no_longer_wants_the_data_is_asked_while_a_server_drips(web: Web, path: str) -> None:
    asked: list[float] = []

    def go_on() -> None:
        asked.append(time.monotonic())
        if len(asked) == 2:
            raise InterruptedError

    started = time.monotonic()
    with pytest.raises(InterruptedError):
        list(fetch(web.uri(path), Allowed.of("", web.place), BOUNDS, go_on))
    assert asked[-1] - started < 4


def test_a_connection_that_breaks_may_be_tried_again(web: Web) -> None:
    with pytest.raises(DataUnreachableError, match="broke off") as error:
        got(web, "/cut")
    assert error.value.retryable


def test_a_place_where_nothing_listens_may_be_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = "{}:{}".format(*listener.getsockname())
    with pytest.raises(DataUnreachableError, match="can't be reached") as error:
        list(fetch(f"http://{place}/a", Allowed.of("", place), BOUNDS, lambda: None))
    assert error.value.retryable


def test_a_busy_server_may_be_tried_again_and_a_missing_file_not(web: Web) -> None:
    with pytest.raises(FetchRefusedError, match="404 Not Found"):
        got(web, "/missing?sig=secret")
    web.failing = 1
    with pytest.raises(DataUnreachableError, match="503") as error:
        got(web, "/data.csv?sig=secret")
    assert error.value.retryable
    assert "secret" not in str(error.value)


def test_an_answer_in_another_encoding_is_refused(web: Web) -> None:
    with pytest.raises(FetchRefusedError, match="gzip"):
        got(web, "/packed")


def test_a_login_is_sent_and_never_shown(web: Web) -> None:
    allowed = Allowed.of("", web.place)
    uri = f"http://me:se%20cret@{web.place}"
    assert b"".join(fetch(f"{uri}/locked", allowed, BOUNDS, lambda: None)) == TABLE
    with pytest.raises(FetchRefusedError) as error:
        list(fetch(f"{uri}/missing", allowed, BOUNDS, lambda: None))
    assert "cret" not in str(error.value)


def test_no_proxy_of_the_environment_is_asked(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert got(web, "/data.csv") == TABLE


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.1.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_addresses_inside_are_told_from_those_in_the_world(address: str, is_public: bool) -> None:
    assert public(ip_address(address)) is is_public
