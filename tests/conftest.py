"""What every test gets: an isolated cache, no network but this machine's own, fixed help width; and small inputs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

LOCAL = {"127.0.0.1", "::1", "localhost"}
ASSETS = Path(__file__).parent.parent / "emotalk" / "assets"


class NetworkBlockedError(RuntimeError):
    """A test without the marker `network` tried to reach another machine."""


@pytest.fixture(autouse=True)
def isolated_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Downloads of one test never meet those of another, or the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("EMOTALK_CACHE", str(folder))
    monkeypatch.delenv("EMOTALK_OFFLINE", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return folder


@pytest.fixture(autouse=True)
def only_local_sockets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse connections and name look-ups that leave this machine, unless the test is marked `network`."""
    if request.node.get_closest_marker("network"):
        yield
        return

    def check(host: object) -> None:
        text = host.decode() if isinstance(host, bytes) else host
        if text is not None and text not in LOCAL:
            raise NetworkBlockedError(f"{request.node.name} tried to reach {text!r}; mark it `network` if it must")

    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple):
            check(address[0])
        connect(self, address)  # type: ignore[arg-type]

    def guarded_connect_ex(self: socket.socket, address: object) -> int:
        if isinstance(address, tuple):
            check(address[0])
        return connect_ex(self, address)  # type: ignore[arg-type]

    def guarded_look_up(host: object, *args: object, **kwargs: object) -> object:
        check(host)
        return look_up(host, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)
    yield


@pytest.fixture
def sample_face() -> Path:
    """The shipped portrait, 512x512."""
    return ASSETS / "sample_face.jpg"


@pytest.fixture
def sample_speech() -> Path:
    """The shipped recording, 4.8 s."""
    return ASSETS / "sample_speech.flac"
