"""What an agent knows of its workers while they run: step, phase, how long they have been silent, stopped or not."""

import contextlib
import pathlib
import time

from tfdist.process.heartbeat import read_beats


class BeatReader:
    """Reads the beats of local workers, and measures their silence by its own clock.

    A monotonic clock that sees changes: neither a clock that is set, nor a machine that slept, makes a worker late.

    Args:
        folder: where the workers beat.
    """

    def __init__(self, folder):
        self._folder = folder
        self._seen = {}

    def report(self, children):
        """Tells how workers are.

        Args:
            children: rank → an object with `pid`.

        Returns:
            rank → {"step", "phase", "silent", "stopped"}; step, phase and silent are None before its first beat.
        """
        beats, now, report = read_beats(self._folder), time.monotonic(), {}
        for rank, child in children.items():
            beat = beats.get(rank)
            known, since = self._seen.get(rank, (None, now))
            if beat != known:
                since = now
            self._seen[rank] = beat, since
            report[rank] = {
                "step": beat.step if beat else None,
                "phase": beat.phase if beat else None,
                "silent": now - since if beat else None,
                "stopped": is_stopped(beat.pid if beat else child.pid),
            }
        return report


def is_stopped(pid):
    """Says whether a process is stopped, as by SIGSTOP; False where the system does not tell."""
    with contextlib.suppress(OSError):
        # The name before it, in brackets, may hold anything.
        return pathlib.Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"T", b"t")
    return False
