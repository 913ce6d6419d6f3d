"""Heartbeats: a worker writes its step and phase to a few bytes of shared memory, which outlive its process."""

import dataclasses
import mmap
import os
import pathlib
import re
import struct
import time
from collections.abc import Mapping

# The launcher sets it; without it, no process reads the heartbeats.
FOLDER = "TFDIST_HEARTBEAT_DIR"
PHASES = ("start", "input", "steps", "vote", "evaluate", "save", "end")
# The phases in which a worker cannot continue without all others.
TOGETHER = ("steps", "vote", "evaluate")

# Process id, step, seconds since the epoch, phase.
_FORMAT = struct.Struct("<qqd16s")


@dataclasses.dataclass(frozen=True)
class Beat:
    """The last heartbeat of a worker.

    Attributes:
        worker: its rank.
        pid: its process id.
        step: steps done since the run began.
        phase: the phase that it has begun, one of PHASES.
        time: when it was written, in seconds since the epoch.
    """

    worker: int
    pid: int
    step: int
    phase: str
    time: float


class Heartbeat:
    """Writes this worker's heartbeats: each is a store to memory, cheap enough for every call.

    Args:
        folder: the folder of the heartbeat files of all local workers.
        worker: this worker's rank.
    """

    def __init__(self, folder: str | os.PathLike[str], worker: int) -> None:
        path = _path(folder, worker)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not emptied first, because an earlier `Heartbeat` of this process may still have the file mapped.
        with open(os.open(path, os.O_RDWR | os.O_CREAT), "r+b") as file:
            file.truncate(_FORMAT.size)
            self._memory = mmap.mmap(file.fileno(), _FORMAT.size)
        self._step = 0
        self.beat("start")

    def beat(self, phase: str, step: int | None = None) -> None:
        """Writes the phase that begins now and the number of steps done; None keeps the last number."""
        self._step = self._step if step is None else step
        _FORMAT.pack_into(self._memory, 0, os.getpid(), self._step, time.time(), phase.encode())


class NoHeartbeat:
    """Stands in for a `Heartbeat` that no process would read."""

    def beat(self, phase: str, step: int | None = None) -> None:
        """Does nothing."""


def make_heartbeat(environ: Mapping[str, str], worker: int) -> Heartbeat | NoHeartbeat:
    """Returns the `Heartbeat` of a worker that the launcher has started, else a `NoHeartbeat`."""
    folder = environ.get(FOLDER)
    return Heartbeat(folder, worker) if folder else NoHeartbeat()


def read_beats(folder: str | os.PathLike[str]) -> dict[int, Beat]:
    """Returns the last `Beat` of each worker that has one, by rank."""
    beats = {}
    for path in pathlib.Path(folder).glob("worker-*.beat"):
        worker = int(re.findall(r"\d+", path.name)[0])
        content = path.read_bytes()
        if len(content) == _FORMAT.size:
            pid, step, seconds, phase = _FORMAT.unpack(content)
            beats[worker] = Beat(worker, pid, step, phase.rstrip(b"\0").decode(errors="replace"), seconds)
    return beats


def _path(folder: str | os.PathLike[str], worker: int) -> pathlib.Path:
    return pathlib.Path(folder) / f"worker-{worker}.beat"
