"""The one door to weights: shipped with the package, in a folder or file, or published and fetched once.

A weights file is safetensors in half precision. Its metadata says what it is: `format`, `network`, `config` (JSON)
and `card` (JSON: data, licences, measured quality). The config inside the file decides the sizes of the network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import config_from_mapping
from .errors import ConfigError, WeightsError
from .files import new_file, output_error
from .nets import NETWORKS

if TYPE_CHECKING:
    import torch
    from torch import nn

FORMAT = "emotalk/1"
SHIPPED = "shipped"
SUFFIX = ".safetensors"
ASSETS = Path(__file__).parent / "assets"
TIMEOUT_SECONDS = 30.0  # without a single byte
CHUNK_BYTES = 1 << 16
NAMES_SHOWN = 3  # of missing or unexpected tensors


@dataclasses.dataclass(frozen=True, slots=True)
class Weights:
    """One published file: everything needed to fetch, verify and cite it."""

    name: str  # "set/network", for example "mead-m003/refinement"
    url: str
    sha256: str  # 64 hex digits, of the file
    size: int  # bytes
    licence: str  # SPDX identifier; shown before the first download
    source: str  # who trained it, on what, with which commit

    @property
    def file_name(self) -> str:
        """Name in the cache; two versions live side by side."""
        return f"{self.name.replace('/', '-')}-{self.sha256[:12]}{SUFFIX}"


PUBLISHED: tuple[Weights, ...] = ()  # nothing is published yet; everything needed ships with the package

OnBytes = Callable[[Weights, int], None]  # bytes done so far; first call with 0, before anything is requested


def cache_folder() -> Path:
    """Where published weights are kept: `$EMOTALK_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("EMOTALK_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("emotalk")


def is_offline(asked: bool = False) -> bool:
    """Whether downloads are off, by argument or by `EMOTALK_OFFLINE`."""
    return asked or os.environ.get("EMOTALK_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}


def published_sets() -> list[str]:
    """Names that `--weights` accepts besides a path and `shipped`."""
    return sorted({entry.name.partition("/")[0] for entry in PUBLISHED})


def check_source(source: str | Path | None) -> None:
    """Refuse a source that is neither `shipped`, nor a file or folder with weights, nor published; reads no weights.

    Raises:
        WeightsError: in one line, with the published names.
    """
    if source is None or str(source) == SHIPPED:
        return
    path = Path(source)
    if path.is_dir():
        if not any((path / f"{name}{SUFFIX}").is_file() for name in NETWORKS):
            raise WeightsError(f"the folder {path} holds no weights; expected files like refinement{SUFFIX}")
    elif path.exists():
        _network_in(path)
    elif str(source) not in published_sets():
        known = ", ".join([SHIPPED, *published_sets()])
        raise WeightsError(f"no weights {str(source)!r}: no such file or folder, and not a known name ({known})")


def find_weights(
    name: str, source: str | Path | None = None, *, offline: bool = False, on_bytes: OnBytes | None = None
) -> Path:
    """The file with the weights of network `name`.

    A folder, file or published set replaces the networks it holds; the shipped weights serve the others.

    Args:
        name: a key of `nets.NETWORKS`.
        source: None or "shipped"; a folder holding `<name>.safetensors`; a weights file; a published set.
        offline: never touch the network; `EMOTALK_OFFLINE=1` does the same.
        on_bytes: told about the progress of a download.

    Raises:
        WeightsError: if there is none, or it cannot be fetched.
    """
    if name not in NETWORKS:
        raise WeightsError(f"unknown network {name!r} (known: {', '.join(NETWORKS)})")
    check_source(source)
    shipped = ASSETS / f"{name}{SUFFIX}"
    if source is not None and str(source) != SHIPPED:
        path = Path(source)
        if path.is_dir():
            inside = path / f"{name}{SUFFIX}"
            if inside.is_file():
                return inside
        elif path.exists():
            if _network_in(path) == name:
                return path
        else:
            entry = next((entry for entry in PUBLISHED if entry.name == f"{source}/{name}"), None)
            if entry is not None:
                return fetch(entry, offline=offline, on_bytes=on_bytes)
    if not shipped.is_file():
        raise WeightsError(f"this package ships no weights for {name}; give a folder or file with --weights")
    return shipped


def fetch_set(source: str, *, offline: bool = False, on_bytes: OnBytes | None = None) -> list[Path]:
    """Every file of one published set, fetched if need be.

    Raises:
        WeightsError: as `fetch`.
    """
    entries = [entry for entry in PUBLISHED if entry.name.partition("/")[0] == source]
    return [fetch(entry, offline=offline, on_bytes=on_bytes) for entry in entries]


def fetch(weights: Weights, *, offline: bool = False, on_bytes: OnBytes | None = None) -> Path:
    """The cached file of published weights; downloaded and verified the first time.

    The bytes go to a temporary file in the cache while they are hashed; only a complete file with the right hash
    gets its name. On any failure, Ctrl-C too, the cache is as before.

    Raises:
        WeightsError: if offline, interrupted, of another size or hash, or there is no room.
    """
    folder = cache_folder()
    target = folder / weights.file_name
    if target.is_file() and target.stat().st_size == weights.size:
        return target
    if is_offline(offline):
        raise WeightsError(
            f"the weights {weights.name} are not in {folder} (as {target.name}) and downloads are off; "
            "run the command once without --offline and without EMOTALK_OFFLINE"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise WeightsError(f"cannot use the cache {folder}: {error.strerror}; set EMOTALK_CACHE") from error
    if free < weights.size:
        raise WeightsError(f"{weights.name} needs {weights.size} bytes, and {folder} has {free}; set EMOTALK_CACHE")
    if on_bytes is not None:
        on_bytes(weights, 0)
    part = None
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".part-", delete=False) as file:
            part = Path(file.name)
            found = _download(weights, file, on_bytes)
        if found != weights.sha256:
            raise WeightsError(
                f"{weights.name} from {weights.url} has sha256 {found[:12]}..., expected {weights.sha256[:12]}...; "
                "the file was changed or damaged on the way and is not used"
            )
        part.chmod(0o644)
        part.replace(target)
    except OSError as error:  # of the cache; the network's own errors were named in _download
        raise WeightsError(f"cannot write to the cache {folder}: {error.strerror or error}") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return target


def _download(weights: Weights, file: Any, on_bytes: OnBytes | None) -> str:
    """Stream the file of `weights` into `file`; return its sha256."""
    digest = hashlib.sha256()
    done = 0
    again = "; run the command again"
    request = urllib.request.Request(weights.url, headers={"User-Agent": "emotalk"})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        raise WeightsError(f"cannot fetch {weights.name}: {weights.url} answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise WeightsError(f"cannot fetch {weights.name} from {weights.url}: {reason}") from error
    with response:
        while True:
            try:
                chunk = response.read(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise WeightsError(f"{weights.name} was interrupted at byte {done} of {weights.size}{again}") from error
            if not chunk:
                break
            done += len(chunk)
            if done > weights.size:
                raise WeightsError(f"{weights.url} sends more than the {weights.size} bytes of {weights.name}")
            digest.update(chunk)
            file.write(chunk)
            if on_bytes is not None:
                on_bytes(weights, done)
    if done < weights.size:
        raise WeightsError(f"{weights.name} was cut short at byte {done} of {weights.size}{again}")
    return digest.hexdigest()


def read_card(path: str | Path) -> dict[str, Any]:
    """What a weights file says about itself: `network`, `config`, `card`.

    Raises:
        WeightsError: if it is no weights file of this format.
    """
    path = Path(path)
    metadata = _metadata(path)
    try:
        config, card = json.loads(metadata["config"]), json.loads(metadata.get("card", "{}"))
    except (KeyError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} says nothing readable about its config") from error
    if not isinstance(config, dict) or not isinstance(card, dict):
        raise WeightsError(f"{path}: config and card must be JSON objects")
    return {"network": _network_in(path), "config": config, "card": card}


def load_network(
    name: str,
    source: str | Path | None = None,
    *,
    offline: bool = False,
    device: str | torch.device = "cpu",
    on_bytes: OnBytes | None = None,
) -> nn.Module:
    """Network `name` with its weights, in float32, in `eval()`, without gradients; arguments as `find_weights`.

    Raises:
        WeightsError: if the weights are missing, damaged, of another network, or do not fit their own config.
    """
    return read_network(find_weights(name, source, offline=offline, on_bytes=on_bytes), name, device=device)


def read_network(path: str | Path, name: str, *, device: str | torch.device = "cpu") -> nn.Module:
    """The network of one weights file.

    Raises:
        WeightsError: as `load_network`.
    """
    path = Path(path)
    said = read_card(path)
    if said["network"] != name:
        raise WeightsError(f"{path} holds the network {said['network']}, not {name}")
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    entry = NETWORKS[name]
    try:
        config = config_from_mapping(entry.config_class(), said["config"], f"{path}: config")
        with torch.random.fork_rng(devices=[]):  # first weights are thrown away; keep the caller's random numbers
            module: nn.Module = entry.network_class()(config)
    except ConfigError as error:
        raise WeightsError(f"{error}; the weights are of another version of emotalk") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: no {name} can be built from its config: {_first_line(error)}") from error
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged: {_first_line(error)}") from error
    _check_tensors(path, module.state_dict(), tensors)
    module.load_state_dict(tensors)
    return module.eval().requires_grad_(False).to(device)


def save_network(path: str | Path, module: nn.Module, config: Any, card: Mapping[str, Any] | None = None) -> Path:
    """Write one network as half-precision safetensors; a temporary file takes the name when it is complete.

    Args:
        path: where to; `<network>.safetensors` is what `find_weights` looks for in a folder.
        module: an instance of a class in `nets.NETWORKS`.
        config: the dataclass it was built from.
        card: data, licences and measured quality.

    Raises:
        WeightsError: if a value is not finite or does not fit in half precision.
        OutputError: if the file cannot be written.
    """
    import torch
    from safetensors.torch import save

    path = Path(path)
    tensors: dict[str, torch.Tensor] = {}
    for key, value in module.state_dict().items():
        tensor = value.detach().cpu()
        tensor = tensor.half() if tensor.is_floating_point() else tensor
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{key} holds values that are not finite in half precision; not written to {path}")
        tensors[key] = tensor.contiguous().clone()
    metadata = {
        "format": FORMAT,
        "network": network_name(module),
        "config": json.dumps(dataclasses.asdict(config), sort_keys=True),
        "card": json.dumps(dict(card or {}), sort_keys=True),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    with new_file(path) as part:
        part.write_bytes(save(tensors, metadata))
    return path


def network_name(module: nn.Module) -> str:
    """The name under which the class of `module` stands in `nets.NETWORKS`.

    Raises:
        WeightsError: if it does not.
    """
    kind = type(module)
    for name, entry in NETWORKS.items():
        if (entry.module, entry.network) == (kind.__module__, kind.__qualname__):
            return name
    raise WeightsError(f"{kind.__qualname__} is not a network of this package (known: {', '.join(NETWORKS)})")


def _metadata(path: Path) -> Mapping[str, str]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsError(f"{path} is not a file" if path.exists() else f"{path} does not exist")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path} is empty")
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {_first_line(error)}") from error


def _network_in(path: Path) -> str:
    """The network a file holds, by its metadata."""
    metadata = _metadata(path)
    if metadata.get("format") != FORMAT:
        said = metadata.get("format", "no format")
        raise WeightsError(f"{path} holds no weights of emotalk, or of another version ({said}; expected {FORMAT})")
    name = metadata.get("network", "")
    if name not in NETWORKS:
        raise WeightsError(f"{path} holds an unknown network {name!r} (known: {', '.join(NETWORKS)})")
    return name


def _check_tensors(path: Path, wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    """Names, shapes and values, strictly."""
    problems = []
    for what, names in (("missing", wanted.keys() - found.keys()), ("unexpected", found.keys() - wanted.keys())):
        if names:
            problems.append(f"{what} {_few(sorted(names))}")
    shared = sorted(wanted.keys() & found.keys())
    wrong = [key for key in shared if wanted[key].shape != found[key].shape]
    if wrong:
        key = wrong[0]
        problems.append(f"{key} is {tuple(found[key].shape)}, expected {tuple(wanted[key].shape)}")
    kinds = [key for key in shared if wanted[key].is_floating_point() != found[key].is_floating_point()]
    if kinds:
        problems.append(f"{kinds[0]} is {found[kinds[0]].dtype}")
    broken = [key for key in shared if found[key].is_floating_point() and not bool(found[key].isfinite().all())]
    if broken:
        problems.append(f"{_few(broken)} not finite")
    if problems:
        raise WeightsError(f"{path} does not fit its config: {'; '.join(problems)}")


def _few(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
