"""Downloads files that others publish: resumed where it stopped, checked, renamed when whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from poeem.data.tables import Progress
from poeem.errors import DataError, SaveError
from poeem.files import atomic_write

_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class RemoteSet:
    """A published data set: a zip file, the members wanted of it, and on what terms."""

    url: str
    sha256: str
    num_bytes: int
    members: tuple[str, ...]
    terms: str


REMOTE_SETS = {
    "movielens-1m": RemoteSet(
        url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        num_bytes=5_917_549,
        members=("ml-1m/ratings.dat", "ml-1m/movies.dat", "ml-1m/README"),
        terms="GroupLens: for research, not to be redistributed",
    ),
}


class _Interrupted(Exception):
    """The transfer stopped early; what came so far is kept and another attempt may go on."""


def download_dataset(name: str, folder: str | Path, progress: Progress | None = None) -> Path:
    """Download and unpack a set of `REMOTE_SETS` into `folder`/`name`; load it by that path.

    Raises:
        DataError: the name is unknown, or the download fails or is not what was published.
        SaveError: the disk refuses.
    """
    if name not in REMOTE_SETS:
        raise DataError(f"name: got {name!r}, wanted one of {', '.join(REMOTE_SETS)}")
    remote = REMOTE_SETS[name]
    target = Path(folder) / name
    archive = download(
        remote.url,
        target / remote.url.rsplit("/", 1)[1],
        sha256=remote.sha256,
        num_bytes=remote.num_bytes,
        progress=progress,
    )
    try:
        with zipfile.ZipFile(archive) as file:
            for member in remote.members:
                # Names are ours and only the last part counts: a zip cannot write elsewhere.
                unpacked = target / member.rsplit("/", 1)[-1]
                with (
                    file.open(member) as source,
                    atomic_write(unpacked) as temporary,
                    temporary.open("wb") as sink,
                ):
                    shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{archive.name}: cannot be unpacked: {error}") from error
    except OSError as error:
        raise SaveError(f"{target}: cannot be written: {error}") from error
    return target


def download(
    url: str,
    target: str | Path,
    *,
    sha256: str | None = None,
    num_bytes: int | None = None,
    progress: Progress | None = None,
    num_attempts: int = 3,
    timeout_seconds: float = 30.0,
) -> Path:
    """Fetch `url` into the file `target`, unless it is there already.

    The bytes go to `target`.part and are renamed when complete and checked, so `target` is never
    half a file. A part left by an earlier call is continued if `sha256` is given: without it
    nothing would tell that the file has changed in between.

    Args:
        sha256: hexadecimal digest the file must have.
        num_bytes: size the file must have.
        progress: called with bytes done and bytes in all, 0 where the server does not say.
        num_attempts: transfers that stop early are continued this often in all.
        timeout_seconds: silence after which a transfer counts as stopped.

    Returns:
        `target`.

    Raises:
        DataError: not http(s), the server refuses or cannot be reached, the transfer keeps
            stopping, or the file has another size or checksum than wanted (the part is removed).
        SaveError: the disk refuses.
    """
    target = Path(target)
    if not url.startswith(("http://", "https://")):
        raise DataError(f"url: got {url!r}, wanted http:// or https://")
    if target.is_file() and _difference(target, sha256, num_bytes) is None:
        return target
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if sha256 is None:
            part.unlink(missing_ok=True)
        _fetch_in_attempts(url, part, num_bytes, progress, num_attempts, timeout_seconds)
        if (difference := _difference(part, sha256, num_bytes)) is not None:
            part.unlink()
            raise DataError(f"{url}: {difference}; the download was thrown away")
        os.replace(part, target)
    except OSError as error:
        if isinstance(error, SaveError):
            raise
        raise SaveError(f"{target}: cannot be written: {error}") from error
    return target


def _difference(path: Path, sha256: str | None, num_bytes: int | None) -> str | None:
    """Say in what the file is not as wanted; None = it is."""
    size = path.stat().st_size
    if num_bytes is not None and size != num_bytes:
        return f"got {size:,} bytes, wanted {num_bytes:,}"
    if sha256 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256.lower():
            return f"got sha256 {found}, wanted {sha256.lower()}"
    return None


def _fetch_in_attempts(
    url: str,
    part: Path,
    num_bytes: int | None,
    progress: Progress | None,
    num_attempts: int,
    timeout_seconds: float,
) -> None:
    for attempt in range(1, num_attempts + 1):
        if num_bytes is not None and part.is_file() and part.stat().st_size == num_bytes:
            return
        try:
            _fetch(url, part, progress, timeout_seconds)
            return
        except _Interrupted as error:
            if attempt == num_attempts:
                raise DataError(
                    f"{url}: {error}, in each of {num_attempts} attempts; "
                    f"call again to continue from {part.name}"
                ) from error


def _fetch(url: str, part: Path, progress: Progress | None, timeout_seconds: float) -> None:
    """Make one transfer, from where `part` ends if the server lets us."""
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=timeout_seconds)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return  # nothing was left to fetch
            part.unlink()  # longer than the file: it was of something else
            raise _Interrupted("the part on disk does not fit") from error
        if error.code >= http.client.INTERNAL_SERVER_ERROR:
            raise _Interrupted(f"the server answers {error.code}") from error
        raise DataError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise _Interrupted(f"no connection ({getattr(error, 'reason', error)})") from error
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0  # the server does not do ranges and sends everything
        total = _total_bytes(response, start)
        _receive(response, part, start, total, progress)


def _total_bytes(response: http.client.HTTPResponse, start: int) -> int | None:
    """Return the size of the whole file, as far as the server says."""
    if response.status == http.client.PARTIAL_CONTENT:
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if told is None or int(told[1]) != start:
            raise DataError(f"{response.url}: the server sent another range than asked for")
        if told[2] != "*":
            return int(told[2])
    length = response.headers.get("Content-Length")
    return None if length is None else start + int(length)


def _receive(
    response: http.client.HTTPResponse,
    part: Path,
    start: int,
    total: int | None,
    progress: Progress | None,
) -> None:
    done = start
    with part.open("ab" if start else "wb") as file:
        while True:
            if progress is not None:
                progress(done, total or 0)
            try:
                chunk = response.read(_CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _Interrupted(f"stopped after {done:,} bytes ({error})") from error
            if not chunk:
                break
            file.write(chunk)
            done += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done < total:
        raise _Interrupted(f"stopped after {done:,} of {total:,} bytes")
