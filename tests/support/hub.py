"""A hub on loopback that records its requests, and repositories in the layout of the hub's cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_test"


@dataclass
class Repository:
    """A repository of the fake hub.

    Attributes:
        files: content by path.
        revisions: the branches and tags, which all lead to `COMMIT`.
        private: whether `TOKEN` is required.
        gated: whether the hub refuses everybody.
    """

    files: Mapping[str, bytes]
    revisions: tuple[str, ...] = ("main",)
    private: bool = False
    gated: bool = False


@dataclass
class Hub:
    """A running hub.

    Attributes:
        url: its endpoint.
        repositories: by "owner/name".
        requests: "METHOD path" of every request so far.
        status: the status of every answer, while it is not 0.
    """

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    status: int = 0

    def downloads(self) -> list[str]:
        """Return the files whose content was sent, in order."""
        gets = [request.removeprefix("GET ") for request in self.requests if request.startswith("GET ")]
        return [path.split("/resolve/")[1].split("/", 1)[1] for path in gets if "/resolve/" in path]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a hub on a free port of loopback."""
    hub = Hub("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            status, headers, content = reply(hub, path, self.headers.get("authorization"))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reply(hub: Hub, path: str, authorization: str | None) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers and the body for a path, as the hub answers."""
    if hub.status:
        return hub.status, {}, b""
    listed = path.startswith("/api/models/")
    rest = path.removeprefix("/api/models/" if listed else "/").split("/")
    repository = hub.repositories.get("/".join(rest[:2]))
    if repository is None or (repository.private and authorization != f"Bearer {TOKEN}"):
        return 401, {"X-Error-Code": "RepoNotFound"}, b""
    if repository.gated:
        return 403, {"X-Error-Code": "GatedRepo"}, b""
    tail = "/".join(rest[3:])
    revision = next((name for name in (*repository.revisions, COMMIT) if f"{tail}/".startswith(f"{name}/")), None)
    headers = {"X-Repo-Commit": COMMIT}
    if revision is None:
        return 404, {"X-Error-Code": "RevisionNotFound"}, b""
    if listed:
        entries = [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in repository.files.items()
        ]
        siblings = [{"rfilename": name} for name in repository.files]
        value: Any = entries if rest[2] == "tree" else {"id": "/".join(rest[:2]), "sha": COMMIT, "siblings": siblings}
        return 200, {**headers, "Content-Type": "application/json"}, json.dumps(value).encode()
    content = repository.files.get(tail[len(revision) + 1 :])
    if content is None:
        return 404, {**headers, "X-Error-Code": "EntryNotFound"}, b""
    return 200, {**headers, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}, content


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """Make huggingface_hub, which reads its environment once, use a hub and a cache."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is in the extra 'hub'")
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def cached_repository(cache: Path, name: str, files: Mapping[str, bytes], ref: str | None = "main") -> Path:
    """Write a repository as huggingface_hub caches it: refs, snapshots of links, and blobs.

    Returns:
        The folder of the snapshot.
    """
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    if ref is not None:
        (folder / "refs" / ref).parent.mkdir(parents=True)
        (folder / "refs" / ref).write_text(COMMIT)
    (folder / "blobs").mkdir(parents=True)
    for file, content in files.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        link = snapshot / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(*[".."] * (len(Path(file).parts) + 1), "blobs", blob.name))
    return snapshot
