"""A file from an address, by as many connections as it takes.

By urllib: pooch, the usual choice, cannot resume; curl resumes without asking whether the file on the server is still
the one it began with (If-Range).
"""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from scrdit_jax.errors import BadInput, writing
from scrdit_jax.io.atomic import flush, remove, require_space

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60
ATTEMPTS = 5
WAIT_SECONDS = 2.0
BROKEN = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError)


class Interrupted(Exception):
    """The connection ended early; what has come is kept."""


def download(
    url: str, path: Path, *, accept: Callable[[Path], None], otherwise: str, say: Callable[[str], None]
) -> None:
    """`path` from `url`, resumed where an earlier call broke off, in a folder that is there.

    All bytes come to a hidden file beside `path`, which takes its name once `accept` returns; where that raises
    BadInput they are deleted. `otherwise` is the remedy, beside trying again, where the server does not give the file;
    `say` is called with a sentence about every new attempt. Raises BadInput, DiskFull, OutputExists.
    """
    with writing(path):
        partial = _all_of(url, path, otherwise, say)
        try:
            accept(partial)
        except BadInput:
            _discard(partial)
            raise
        flush(partial)
        partial.replace(path)
        _discard(partial)  # what vouched for it; until here a kill costs nothing


def _all_of(url: str, path: Path, otherwise: str, say: Callable[[str], None]) -> Path:
    """The hidden file beside `path`, with all bytes of `url`."""
    partial = path.with_name(f".{path.name}.part")
    failures = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            _continue(url, partial)
        except ValueError as error:
            raise BadInput(f"{url} is no address ({error}); it must begin with https://") from error
        except (Interrupted, *BROKEN) as error:
            code = getattr(error, "code", 500)
            if code < 500 and code not in (408, 429):
                raise BadInput(f"{url} answers {code} {error.reason}; it is not there: {otherwise}") from error
            grown = partial.exists() and partial.stat().st_size > before
            failures = 0 if grown else failures + 1
            if failures >= ATTEMPTS:
                reason = getattr(error, "reason", None) or error
                raise BadInput(
                    f"{url} cannot be fetched ({reason}); what has come is kept: run the same command again to "
                    f"continue, or {otherwise}"
                ) from error
            seconds = WAIT_SECONDS * 2 ** max(failures - 1, 0)
            say(f"{getattr(error, 'reason', None) or error}; trying again in {seconds:g} s")
            time.sleep(seconds)
        else:
            return partial


def _continue(url: str, partial: Path) -> None:
    """One connection: what is still missing, or all of it where the server cannot tell that it is the same file."""
    have = partial.stat().st_size if partial.exists() else 0
    validator = _validator_of(partial)
    began = validator.read_text() if validator.exists() else ""
    request = urllib.request.Request(url, headers={"User-Agent": "scrdit_jax"})
    if have and began:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", began)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # everything is here already, or more than that
            raise
        total = str(error.headers.get("Content-Range", "")).rpartition("/")[2]
        if total == str(have):
            return
        remove(partial)
        raise Interrupted("the file on the server is shorter than what had come") from error
    with response:
        resumed = response.status == 206 and _starts_at(response, have)
        if response.status == 206 and not resumed:
            remove(partial)
            raise Interrupted("the server sent another part than was asked for")
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        if total:
            require_space(partial.parent, total - start)
        if not resumed:
            remove(partial)
            tag = response.headers.get("ETag", "")
            strong = tag if not tag.startswith("W/") else ""  # a weak one does not vouch for bytes
            validator.write_text(strong or response.headers.get("Last-Modified", ""))
        got = _copy(response, partial, start, total)
        if total is not None and got != total:
            raise Interrupted(f"the connection ended after {got} of {total} bytes")


def _copy(response, partial: Path, start: int, total: int | None) -> int:
    label = f"fetching {partial.name[1:].removesuffix('.part')}"
    bar = tqdm(total=total, initial=start, desc=label, unit="B", unit_scale=True, disable=None, delay=1, leave=False)
    got = start
    with bar, partial.open("ab") as file:
        while True:
            try:
                chunk = response.read1(CHUNK)
            except http.client.IncompleteRead as error:
                chunk = error.partial
            if not chunk:
                return got
            file.write(chunk)
            got += len(chunk)
            bar.update(len(chunk))


def _starts_at(response, have: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _validator_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.from")


def _discard(partial: Path) -> None:
    remove(partial)
    remove(_validator_of(partial))
