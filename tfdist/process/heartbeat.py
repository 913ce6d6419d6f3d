"""What a worker does, told all the time: a few bytes of shared memory that outlive the process that writes them."""

import dataclasses
import mmap
import os
import pathlib
import re
import struct
import time

# The launcher sets it; where it is not set, nobody listens.
FOLDER = "TFDIST_HEARTBEAT_DIR"
PHASES = ("start", "input", "steps", "vote", "evaluate", "save", "end")
# Of these, the ones in which a worker cannot go on without all others.
TOGETHER = ("steps", "vote", "evaluate")

# Process id, step, seconds since the epoch, phase.
_FORMAT = struct.Struct("<qqd16s")


@dataclasses.dataclass(frozen=True)
class Beat:
    """What a worker said last.

    Attributes:
        worker: its rank.
        pid: its process id.
        step: steps done since the run began.
        phase: one of PHASES: what it has begun.
        time: when, in seconds since the epoch.
    """

    worker: int
    pid: int
    step: int
    phase: str
    time: float


class Heartbeat:
    """Writes this worker's beats: a store to memory, cheap enough for every call.

    Args:
        folder: where the files of all local workers are.
        worker: this worker's rank.
    """

    def __init__(self, folder, worker):
        path = _path(folder, worker)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not emptied first: an earlier heartbeat of this process may still have it in its memory.
        with open(os.open(path, os.O_RDWR | os.O_CREAT), "r+b") as file:
            file.truncate(_FORMAT.size)
            self._memory = mmap.mmap(file.fileno(), _FORMAT.size)
        self._step = 0
        self.beat("start")

    def beat(self, phase, step=None):
        """Says what begins now, and how many steps are done (None: as before)."""
        self._step = self._step if step is None else step
        _FORMAT.pack_into(self._memory, 0, os.getpid(), self._step, time.time(), phase.encode())


class NoHeartbeat:
    """Where nobody listens."""

    def beat(self, phase, step=None):
        """Says nothing."""


def make_heartbeat(environ, worker):
    """Gives the `Heartbeat` of a worker that was started by the launcher, else one that does nothing."""
    folder = environ.get(FOLDER)
    return Heartbeat(folder, worker) if folder else NoHeartbeat()


def read_beats(folder):
    """Gives the last `Beat` of each worker that has one, by rank."""
    beats = {}
    for path in pathlib.Path(folder).glob("worker-*.beat"):
        worker = int(re.findall(r"\d+", path.name)[0])
        content = path.read_bytes()
        if len(content) == _FORMAT.size:
            pid, step, seconds, phase = _FORMAT.unpack(content)
            beats[worker] = Beat(worker, pid, step, phase.rstrip(b"\0").decode(errors="replace"), seconds)
    return beats


def _path(folder, worker):
    return pathlib.Path(folder) / f"worker-{worker}.beat"
