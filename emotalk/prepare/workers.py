"""Do the work on many clips: in this process, or in several that survive each other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from .clip import Outcome, Task, prepare_clip, reject

if TYPE_CHECKING:
    from ..face import FaceFinder

PARENT_CHECK = 1.0  # seconds
_finder: FaceFinder | None = None  # of this process; loading it costs a second


def work(task: Task) -> Outcome:
    """Prepare one clip in this process."""
    global _finder
    if _finder is None:
        _finder = load_finder(task.landmarks.partition(" ")[0])
    if task.puppet is not None:
        from .puppets import prepare_puppet

        return prepare_puppet(task, _finder)
    return prepare_clip(task, _finder)


def load_finder(landmarks: str) -> FaceFinder:
    """The networks on one thread of the processor: many clips at once are faster than many threads on one."""
    from ..face import FaceFinder

    return FaceFinder(landmarks, device="cpu", offline=True)


def one_thread() -> None:
    """Keep the libraries to one thread. The same everywhere, so that the same clip gives the same bytes.

    BLAS is among them: sums of MFCC come out differently in the last digit when several threads share them.
    """
    import cv2
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def run_here(tasks: Sequence[Task]) -> Iterator[Outcome]:
    """One clip after the other in this process."""
    import cv2
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads(), cv2.getNumThreads()
    with threadpool_limits(1):
        one_thread()
        try:
            yield from map(work, tasks)
        finally:
            torch.set_num_threads(before[0])
            cv2.setNumThreads(before[1])


def run_processes(tasks: Sequence[Task], jobs: int, function: Callable[[Task], Outcome] = work) -> Iterator[Outcome]:
    """Several clips at once, outcomes as they come.

    When a process dies, those in work are tried again one by one; the one that kills its process again is rejected.
    """
    left = deque(tasks)
    suspects: deque[Task] = deque()
    while left or suspects:
        alone = bool(suspects)
        queue = deque([suspects.popleft()]) if alone else left
        running: dict[Future[Outcome], Task] = {}
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(
            1 if alone else jobs, mp_context=context, initializer=_begin, initargs=(os.getpid(),)
        )
        try:
            while queue or running:
                while queue and len(running) < 2 * jobs:
                    task = queue.popleft()
                    running[pool.submit(function, task)] = task
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = future.result()
                    del running[future]
                    yield outcome
        except BrokenProcessPool:
            for task in running.values():
                if alone:
                    yield reject(task, "crash", "the program that read it stopped, twice")
                else:
                    suspects.append(task)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # the clips in hand are finished


def _begin(parent: int) -> None:
    """What every process does first: Ctrl-C is the parent's business; without the parent there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    one_thread()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK)
    os._exit(1)
