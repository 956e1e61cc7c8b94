"""Downloads from a server in a thread that can do ranges, or not, or stop half-way."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from poeem.config import DataConfig
from poeem.data import REMOTE_SETS, RemoteSet, download, download_dataset, load_interactions
from poeem.errors import DataError, SaveError

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` at any path, in the way the test asks for."""

    daemon_threads = True
    content = CONTENT
    ranges = True
    wrong_range = False
    tells_length = True
    stop_after: int | None = None  # bytes of a transfer, the first `num_stops` times
    num_stops = 1
    status: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/set.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.server.status is not None:
            self.send_error(self.server.status)
            return
        content, total = self.server.content, len(self.server.content)
        start = 0
        if wanted and self.server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.end_headers()
                return
            told = start + (1 if self.server.wrong_range else 0)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {told}-{total - 1}/{total}")
        else:
            self.send_response(200)
        body = content[start:]
        if self.server.tells_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.stop_after is not None and self.server.num_stops > 0:
            self.server.num_stops -= 1
            body = body[: self.server.stop_after]
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        # A short poll, as shutdown waits for it.
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_file_is_fetched_checked_and_reported(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    target = tmp_path / "new" / "set.bin"
    found = download(
        server.url,
        target,
        sha256=DIGEST.upper(),
        num_bytes=len(CONTENT),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert found == target
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == ["set.bin"]
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_what_is_there_already_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "set.bin"
    target.write_bytes(CONTENT)
    download(server.url, target, sha256=DIGEST)
    assert server.asked == []
    target.write_bytes(b"something else")
    download(server.url, target, sha256=DIGEST)
    assert target.read_bytes() == CONTENT


def test_a_part_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:1000])
    download(server.url, tmp_path / "set.bin", sha256=DIGEST)
    assert server.asked == ["bytes=1000-"]
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_part_is_not_trusted_without_a_checksum(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.bin.part").write_bytes(b"of another file")
    download(server.url, tmp_path / "set.bin")
    assert server.asked == [None]
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:1000])
    download(server.url, tmp_path / "set.bin", sha256=DIGEST)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_complete_part_needs_no_more_bytes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "a", sha256=DIGEST, num_bytes=len(CONTENT))
    assert server.asked == []
    (tmp_path / "b.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "b", sha256=DIGEST)
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.bin.part").write_bytes(CONTENT + b"more")
    download(server.url, tmp_path / "set.bin", sha256=DIGEST)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_transfer_that_stops_is_continued(server: Server, tmp_path: Path) -> None:
    server.stop_after, server.num_stops = 300_000, 2
    download(server.url, tmp_path / "set.bin", sha256=DIGEST)
    assert server.asked == [None, "bytes=300000-", "bytes=600000-"]
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_transfer_that_keeps_stopping_leaves_its_part(server: Server, tmp_path: Path) -> None:
    server.stop_after, server.num_stops = 1000, 99
    with pytest.raises(DataError, match=r"stopped after 2,000 of 1,024,000 bytes.*2 attempts"):
        download(server.url, tmp_path / "set.bin", sha256=DIGEST, num_attempts=2)
    assert os.listdir(tmp_path) == ["set.bin.part"]
    assert (tmp_path / "set.bin.part").read_bytes() == CONTENT[:2000]


def test_a_wrong_checksum_or_size_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"got sha256 {DIGEST}, wanted {'0' * 64}"):
        download(server.url, tmp_path / "set.bin", sha256="0" * 64)
    with pytest.raises(DataError, match="got 1,024,000 bytes, wanted 5"):
        download(server.url, tmp_path / "set.bin", num_bytes=5)
    assert os.listdir(tmp_path) == []


def test_a_server_that_does_not_tell_the_length_is_fine(server: Server, tmp_path: Path) -> None:
    server.tells_length = False
    seen: list[int] = []
    download(server.url, tmp_path / "x", progress=lambda _, total: seen.append(total))
    assert set(seen) == {0}
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_server_that_sends_another_range_is_refused(server: Server, tmp_path: Path) -> None:
    server.wrong_range = True
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataError, match="another range"):
        download(server.url, tmp_path / "set.bin", sha256=DIGEST)


def test_refusals_are_not_repeated_and_failures_are(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DataError, match="the server answers 404"):
        download(server.url, tmp_path / "x")
    assert len(server.asked) == 1
    server.status = 503
    with pytest.raises(DataError, match="the server answers 503, in each of 3 attempts"):
        download(server.url, tmp_path / "x")
    assert len(server.asked) == 4


def test_no_server_and_no_http(tmp_path: Path) -> None:
    with Server() as gone:
        url = gone.url
    with pytest.raises(DataError, match="no connection"):
        download(url, tmp_path / "x", num_attempts=1)
    with pytest.raises(DataError, match="wanted http:// or https://"):
        download("file:///etc/hostname", tmp_path / "x")


def test_a_disk_that_refuses_is_a_save_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SaveError, match="cannot be written"):
        download(server.url, tmp_path / "file" / "x")


def test_a_published_set_is_unpacked_and_loads(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("ml/ratings.dat", "1::10::5::3\n2::10::4::4\n")
        file.writestr("ml/movies.dat", "10::Alien (1979)::Horror\n")
        file.writestr("../outside", "unwanted")
    server.content = buffer.getvalue()
    digest = hashlib.sha256(server.content).hexdigest()
    members = ("ml/ratings.dat", "ml/movies.dat")
    entry = RemoteSet(server.url, digest, len(server.content), members, "none")
    monkeypatch.setitem(REMOTE_SETS, "films", entry)
    folder = download_dataset("films", tmp_path)
    assert sorted(os.listdir(folder)) == ["movies.dat", "ratings.dat", "set.bin"]
    data = load_interactions(DataConfig(path=str(folder)))
    assert data.item_titles == ["Alien (1979)"]
    monkeypatch.setitem(
        REMOTE_SETS, "films", RemoteSet(server.url, digest, entry.num_bytes, ("ml/no",), "none")
    )
    with pytest.raises(DataError, match="cannot be unpacked"):
        download_dataset("films", tmp_path)
    with pytest.raises(DataError, match="got 'none', wanted one of movielens-1m"):
        download_dataset("none", tmp_path)


def test_a_disk_that_fills_while_unpacking_leaves_no_short_table(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("ml/ratings.dat", "1::10::5::3\n2::10::4::4\n")
    server.content = buffer.getvalue()
    digest = hashlib.sha256(server.content).hexdigest()
    entry = RemoteSet(server.url, digest, len(server.content), ("ml/ratings.dat",), "none")
    monkeypatch.setitem(REMOTE_SETS, "films", entry)

    def full(source: Any, sink: Any) -> None:
        sink.write(source.read(12))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(SaveError, match="No space left"):
            download_dataset("films", tmp_path)
    assert os.listdir(tmp_path / "films") == ["set.bin"]
    assert len(load_interactions(DataConfig(path=str(download_dataset("films", tmp_path))))) == 2
