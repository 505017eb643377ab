"""Weights: what is written is read back, what is wrong is named in one line, downloads are whole or absent."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from emotalk import config as config_module
from emotalk import weights
from emotalk.errors import ConfigError, OutputError, WeightsError
from emotalk.nets import NETWORKS, NetworkEntry
from emotalk.weights import Weights, fetch, find_weights, load_network, read_card, read_network, save_network


@dataclass(frozen=True, kw_only=True, slots=True)
class ToyConfig:
    width: int = 4
    sizes: tuple[int, ...] = (3, 5)

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"toy.width is {self.width}; it must be positive")


class Toy(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.body = nn.Sequential(nn.Linear(3, config.width), nn.BatchNorm1d(config.width), nn.Dropout(0.5))
        self.register_buffer("scale", torch.rand(2))


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two toy networks instead of the real ones, `toy` shipped in an assets folder of its own."""
    monkeypatch.setattr(config_module, "ToyConfig", ToyConfig, raising=False)
    for name, kind in (("Toy", Toy), ("Other", type("Other", (Toy,), {"__module__": __name__}))):
        monkeypatch.setitem(globals(), name, kind)
    table = {"toy": NetworkEntry(__name__, "Toy", "ToyConfig"), "other": NetworkEntry(__name__, "Other", "ToyConfig")}
    monkeypatch.setattr(weights, "NETWORKS", table)
    assets = tmp_path / "assets"
    monkeypatch.setattr(weights, "ASSETS", assets)
    save_network(assets / "toy.safetensors", Toy(ToyConfig()), ToyConfig(), {"licence": "Apache-2.0"})
    return assets


def toy(width: int = 4) -> tuple[nn.Module, ToyConfig]:
    config = ToyConfig(width=width)
    return Toy(config), config


def test_the_table_names_classes_that_take_exactly_their_config() -> None:
    """Each entry whose module is there resolves, and its default config builds."""
    for entry in NETWORKS.values():
        if not Path(weights.__file__).parent.joinpath("nets", f"{entry.module.rpartition('.')[2]}.py").is_file():
            continue
        network = entry.network_class()(entry.config_class()())
        assert weights.network_name(network) in NETWORKS


def test_a_network_comes_back_as_it_was_saved(toys: Path, tmp_path: Path) -> None:
    module, config = toy(width=7)
    path = save_network(tmp_path / "new" / "toy.safetensors", module, config, {"score": 0.5})
    loaded = load_network("toy", path)
    assert loaded.config == config  # lists of JSON are tuples again
    assert not loaded.training
    for key, value in module.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(loaded.state_dict()[key], expected), key
    assert all(not p.requires_grad and p.dtype == torch.float32 for p in loaded.parameters())
    assert all(t.dtype == torch.float16 for t in load_file(path).values() if t.is_floating_point())
    said = read_card(path)
    assert said == {"network": "toy", "config": {"width": 7, "sizes": [3, 5]}, "card": {"score": 0.5}}
    assert [p.name for p in path.parent.iterdir()] == ["toy.safetensors"]


def test_loading_leaves_random_numbers_alone(toys: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_network("toy")
    assert torch.equal(torch.rand(4), expected)


def test_values_that_half_precision_cannot_hold_are_refused(toys: Path, tmp_path: Path) -> None:
    module, config = toy()
    module.state_dict()["scale"][0] = 1e6
    with pytest.raises(WeightsError, match="scale holds values that are not finite in half precision"):
        save_network(tmp_path / "toy.safetensors", module, config)
    assert not (tmp_path / "toy.safetensors").exists()


def test_a_place_that_cannot_be_written_is_an_output_error(toys: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        save_network(tmp_path / "file" / "toy.safetensors", *toy())


def test_a_class_outside_the_table_is_refused(toys: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="Linear is not a network"):
        save_network(tmp_path / "x.safetensors", nn.Linear(1, 1), ToyConfig())


def test_a_source_replaces_what_it_holds_and_the_shipped_weights_serve_the_rest(toys: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    module = weights.NETWORKS["other"].network_class()(ToyConfig())
    own = save_network(run / "other.safetensors", module, ToyConfig())
    assert find_weights("toy") == find_weights("toy", "shipped") == toys / "toy.safetensors"
    assert find_weights("other", run) == find_weights("other", str(own)) == own
    assert find_weights("toy", run) == find_weights("toy", own) == toys / "toy.safetensors"
    with pytest.raises(WeightsError, match="ships no weights for other"):
        find_weights("other")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", r"no weights 'nowhere': no such file or folder, and not a known name \(shipped\)"),
        ("empty", "holds no weights"),
        ("zero.safetensors", "is empty"),
        ("text.safetensors", "damaged or no safetensors"),
        ("foreign.safetensors", "no weights of emotalk, or of another version"),
        ("newer.safetensors", r"another version \(emotalk/99"),
        ("unknown.safetensors", "unknown network 'diffusion'"),
    ],
)
def test_a_wrong_source_is_named(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("zero.safetensors").touch()
    Path("text.safetensors").write_text("these are not weights, only words, and not few")
    save_file({"a": torch.zeros(1)}, "foreign.safetensors")
    save_file({"a": torch.zeros(1)}, "newer.safetensors", {"format": "emotalk/99", "network": "toy"})
    save_file({"a": torch.zeros(1)}, "unknown.safetensors", {"format": "emotalk/1", "network": "diffusion"})
    with pytest.raises(WeightsError, match=message) as caught:
        load_network("toy", source)
    assert "\n" not in str(caught.value)


def test_an_unknown_network_is_named(toys: Path) -> None:
    with pytest.raises(WeightsError, match=r"unknown network 'toyy' \(known: toy, other\)"):
        load_network("toyy")


def test_every_truncation_is_damage(toys: Path, tmp_path: Path) -> None:
    """No prefix of a weights file loads, wherever the cut falls."""
    whole = (toys / "toy.safetensors").read_bytes()
    path = tmp_path / "toy.safetensors"
    for cut in (1, 7, 8, 9, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match="damaged"):
            read_network(path, "toy")


Change = Callable[[dict[str, torch.Tensor], dict[str, str]], None]


def _set(key: str, value: torch.Tensor) -> Change:
    return lambda tensors, metadata: tensors.__setitem__(key, value)


def _say(key: str, value: str) -> Change:
    return lambda tensors, metadata: metadata.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, metadata: tensors.pop("scale"), "missing scale"),
        (_set("extra", torch.zeros(1)), "unexpected extra"),
        (_set("scale", torch.zeros(3)), r"scale is \(3,\), expected \(2,\)"),
        (_set("scale", torch.tensor([1.0, float("nan")])), "scale not finite"),
        (_set("scale", torch.zeros(2, dtype=torch.int64)), "scale is torch.int64"),
        (_say("config", '{"width": 4, "depth": 2}'), "unknown key depth.*known: width, sizes.*another version"),
        (_say("config", '{"width": 0}'), "toy.width is 0"),
        (_say("config", '{"width": "wide"}'), "another version"),
        (_say("config", "{"), "nothing readable about its config"),
        (_say("config", "[]"), "must be JSON objects"),
        (_say("config", '{"width": 5}'), r"body.0.bias is \(4,\), expected \(5,\)"),
        (_say("network", "other"), "holds the network other, not toy"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(toys: Path, tmp_path: Path, change: Change, message: str) -> None:
    source = toys / "toy.safetensors"
    metadata = {"format": "emotalk/1", "network": "toy", "config": json.dumps({"width": 4}), "card": "{}"}
    tensors = load_file(source)
    change(tensors, metadata)
    path = tmp_path / "toy.safetensors"
    save_file(tensors, path, metadata)
    with pytest.raises(WeightsError, match=message) as caught:
        read_network(path, "toy")
    assert "\n" not in str(caught.value)


def test_many_missing_names_are_counted_not_listed(toys: Path, tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"format": "emotalk/1", "network": "toy", "config": "{}", "card": "{}"})
    with pytest.raises(WeightsError, match=r"missing body.0.bias, body.0.weight, body.1.bias and \d+ more"):
        read_network(path, "toy")


def test_pickles_are_never_read(toys: Path, tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    torch.save(Toy(ToyConfig()).state_dict(), path)
    with pytest.raises(WeightsError, match="no safetensors file"):
        read_network(path, "toy")


# Downloads, from a server on this machine that can misbehave.

BODY = bytes(range(256)) * 1200  # 300 kB, several chunks


class Server(http.server.BaseHTTPRequestHandler):
    requests: list[str]

    def do_GET(self) -> None:
        type(self).requests.append(self.path)
        if self.path == "/absent":
            self.send_error(404)
            return
        body = BODY[: len(BODY) // 2] if self.path == "/short" else BODY
        self.send_response(200)
        if self.path != "/short":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/cut":  # promises all, sends half, hangs up
            body = body[: len(body) // 2]
        self.wfile.write(b"\0" + body[1:-1] + b"\1" if self.path == "/changed" else body)
        if self.path == "/long":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[types.SimpleNamespace]:
    handler = type("Handler", (Server,), {"requests": []})
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield types.SimpleNamespace(url=f"http://127.0.0.1:{httpd.server_port}", requests=handler.requests)
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def published(url: str) -> Weights:
    digest = hashlib.sha256(BODY).hexdigest()
    return Weights("set/toy", url, digest, len(BODY), "Apache-2.0", "this test")


def test_a_download_is_verified_kept_and_not_repeated(server: types.SimpleNamespace, isolated_cache: Path) -> None:
    entry = published(server.url + "/good")
    seen: list[int] = []
    path = fetch(entry, on_bytes=lambda _, done: seen.append(done))
    assert path.read_bytes() == BODY
    assert path.parent == isolated_cache
    assert entry.sha256[:12] in path.name
    assert seen[0] == 0 and seen[-1] == len(BODY) and seen == sorted(seen) and len(seen) > 3
    assert fetch(entry) == fetch(entry, offline=True) == path
    assert server.requests == ["/good"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/cut", "interrupted at byte|cut short at byte"),
        ("/short", "cut short at byte 153600 of 307200"),
        ("/changed", "has sha256 .* expected"),
        ("/absent", "answers 404"),
    ],
)
def test_a_bad_download_leaves_the_cache_as_it_was(
    server: types.SimpleNamespace, isolated_cache: Path, path: str, message: str
) -> None:
    (isolated_cache / "older.safetensors").write_text("keep")
    with pytest.raises(WeightsError, match=message) as caught:
        fetch(published(server.url + path))
    assert "\n" not in str(caught.value)
    assert [p.name for p in isolated_cache.iterdir()] == ["older.safetensors"]


def test_a_server_that_sends_too_much_is_stopped(server: types.SimpleNamespace, isolated_cache: Path) -> None:
    entry = replace(published(server.url + "/good"), size=1000)
    with pytest.raises(WeightsError, match="more than the 1000 bytes"):
        fetch(entry)
    assert not list(isolated_cache.iterdir())


def test_ctrl_c_leaves_no_part_file(server: types.SimpleNamespace, isolated_cache: Path) -> None:
    def interrupt(_: Weights, done: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(published(server.url + "/good"), on_bytes=interrupt)
    assert not list(isolated_cache.iterdir())


def test_nobody_listening_is_one_line(isolated_cache: Path) -> None:
    with pytest.raises(WeightsError, match="cannot fetch set/toy"):
        fetch(published("http://127.0.0.1:9/none"))
    assert not list(isolated_cache.iterdir())


@pytest.mark.parametrize("by_environment", [False, True])
def test_offline_asks_nobody_and_says_what_to_do(
    server: types.SimpleNamespace, isolated_cache: Path, monkeypatch: pytest.MonkeyPatch, by_environment: bool
) -> None:
    if by_environment:
        monkeypatch.setenv("EMOTALK_OFFLINE", "1")
    entry = published(server.url + "/good")
    with pytest.raises(WeightsError, match="without --offline") as caught:
        fetch(entry, offline=not by_environment)
    assert str(isolated_cache) in str(caught.value) and entry.file_name in str(caught.value)
    assert server.requests == []


def test_a_cached_file_of_another_size_is_fetched_again(server: types.SimpleNamespace, isolated_cache: Path) -> None:
    entry = published(server.url + "/good")
    (isolated_cache / entry.file_name).write_bytes(BODY[:10])
    with pytest.raises(WeightsError, match="downloads are off"):
        fetch(entry, offline=True)
    assert fetch(entry).read_bytes() == BODY


def test_a_full_disk_is_noticed_before_the_first_byte(
    server: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=5))
    with pytest.raises(WeightsError, match="needs 307200 bytes"):
        fetch(published(server.url + "/good"))
    assert server.requests == []


def test_a_cache_that_is_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMOTALK_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="set EMOTALK_CACHE"):
        fetch(published("http://127.0.0.1:9/none"))


def test_a_published_set_is_found_by_name_and_loads(
    server: types.SimpleNamespace, toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = (toys / "toy.safetensors").read_bytes()
    entry = replace(published(server.url + "/good"), sha256=hashlib.sha256(body).hexdigest(), size=len(body))
    monkeypatch.setattr(weights, "PUBLISHED", (entry,))
    monkeypatch.setitem(globals(), "BODY", body)
    assert isinstance(load_network("toy", "set"), Toy)
    assert load_network("toy", "set", offline=True) is not None
    assert server.requests == ["/good"]
    with pytest.raises(WeightsError, match=r"not a known name \(shipped, set\)"):
        find_weights("toy", "sett")
