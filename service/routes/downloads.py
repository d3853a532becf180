"""Send an artifact: the file, or the folder as a tar, whole or from where a download broke off."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from serving.archive import pack

# Several ranges at once, and units other than bytes, are answered by the whole: RFC 9110, section 14.2.
_ONE_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")


def download(path: Path, artifact: Mapping[str, Any], *, name: str, request: Request) -> Response:
    """Answer with an artifact's bytes; `artifact` is its record, whose digest is the ETag.

    A folder is sent as `name`.tar, which is the same each time, so that ranges of it fit together.
    """
    etag = f'"{artifact["sha256"]}"'
    if path.is_file():
        return FileResponse(
            path, headers={"ETag": etag}, filename=path.name, media_type="application/octet-stream"
        )
    size: int = artifact["size_bytes"]
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{name}.tar"',
    }
    asked = None
    if request.headers.get("If-Range", etag) == etag:
        asked = _ONE_RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if asked is None:
        headers["Content-Length"] = str(size)
        return StreamingResponse(_sent(path, 0, size), headers=headers, media_type="application/x-tar")
    start, stop = _bounds(asked, size)
    if start >= stop:
        headers["Content-Range"] = f"bytes */{size}"
        return Response(status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    return StreamingResponse(
        _sent(path, start, stop),
        status_code=HTTPStatus.PARTIAL_CONTENT,
        headers=headers,
        media_type="application/x-tar",
    )


def _bounds(asked: re.Match[str], size: int) -> tuple[int, int]:
    """The first byte that was asked for, and the one after the last."""
    first, last, suffix = asked.groups()
    if suffix is not None:
        return max(0, size - int(suffix)), size
    return int(first), min(size, int(last) + 1) if last else size


def _sent(folder: Path, start: int, stop: int) -> Iterator[bytes]:
    left = stop - start
    for chunk in pack(folder, start=start):
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return
