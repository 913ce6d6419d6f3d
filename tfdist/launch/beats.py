"""An agent's view of its running workers: step, phase, time since the last heartbeat, stopped or not."""

import contextlib
import pathlib
import time
from typing import TypedDict

from tfdist.process.heartbeat import read_beats


class WorkerState(TypedDict):
    """The state of a running worker: step, phase and seconds since the last heartbeat, None before the first one."""

    step: int | None
    phase: str | None
    silent: float | None
    stopped: bool


class BeatReader:
    """Reads the heartbeats of local workers, and measures the time since the last change with a monotonic clock.

    So neither a clock that is set, nor a machine that was suspended, makes a worker look stuck.

    Args:
        folder: the folder of the workers' heartbeats.
    """

    def __init__(self, folder):
        self._folder = folder
        self._last_changes = {}

    def report(self, children):
        """Returns the state of workers.

        Args:
            children: rank → an object with `pid`.

        Returns:
            rank → `WorkerState`.
        """
        beats, now, report = read_beats(self._folder), time.monotonic(), {}
        for rank, child in children.items():
            beat = beats.get(rank)
            last, since = self._last_changes.get(rank, (None, now))
            if beat != last:
                since = now
            self._last_changes[rank] = beat, since
            report[rank] = WorkerState(
                step=beat.step if beat else None,
                phase=beat.phase if beat else None,
                silent=now - since if beat else None,
                stopped=is_stopped(beat.pid if beat else child.pid),
            )
        return report


def is_stopped(pid):
    """Returns whether a process is stopped, as by SIGSTOP; False where the system has no /proc."""
    with contextlib.suppress(OSError):
        # The process name before the state, in brackets, may contain any character.
        return pathlib.Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"T", b"t")
    return False
