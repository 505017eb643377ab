"""The same work on several machines, through Ray; they see the corpus and the output under the same names."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from typing import Any

from ..errors import ConfigError, EmotalkError, InputError
from .clip import Outcome, Task, reject
from .workers import one_thread, work

RETRIES = 3  # of a clip whose process or machine was lost
AHEAD = 2  # clips per processor that are handed out


def check_cluster() -> None:
    """Refuse early what cannot work.

    Raises:
        ConfigError: if Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("--cluster needs Ray; pip install 'emotalk[cluster]'")


def run_cluster(tasks: Sequence[Task], address: str, function: Callable[[Task], Outcome] = work) -> Iterator[Outcome]:
    """Prepare clips on a Ray cluster, outcomes as they come.

    A clip whose process or machine is lost is done again elsewhere; one that is lost every time is rejected.

    Raises:
        ConfigError: if Ray is not installed.
        InputError: if there is no cluster at the address.
        EmotalkError: as the work itself raises.
    """
    check_cluster()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report home
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"no Ray cluster at {address} ({reason}); start one with ray start") from None
    try:
        with redirect_stdout(sys.stderr):  # where Ray prints what it has to say about lost machines
            yield from _run(ray, tasks, function)
    finally:
        ray.shutdown()


def _run(ray: Any, tasks: Sequence[Task], function: Callable[[Task], Outcome]) -> Iterator[Outcome]:
    @ray.remote(num_cpus=1, max_retries=RETRIES)  # type: ignore[untyped-decorator]
    def remote(task: Task) -> Outcome:
        one_thread()
        return function(task)

    left = deque(tasks)
    running: dict[Any, Task] = {}
    while left or running:
        room = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        while left and len(running) < room:
            task = left.popleft()
            running[remote.remote(task)] = task
        done, _ = ray.wait(list(running), num_returns=1)
        for reference in done:
            task = running.pop(reference)
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, EmotalkError):
                    raise error.cause from None
                raise
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
                yield reject(task, "crash", f"the program that read it stopped, {RETRIES + 1} times")
