"""Whole runs of `python -m tfdist.train` on this machine, whose last weights are compared by their digests."""

import json
import signal
import sys

from tfdist.doctor.acceptance.page import describe_error
from tfdist.process import faults
from tfdist.process.child import JsonLinesChild

# The checkpoint before the kill is at step 20, so that some steps are done again.
_KILLED_AFTER = 25
COMMAND = (sys.executable, "-m", "tfdist.train")
_FLAGS = ("--alone", "--deterministic", "--epochs=1", "--checkpoint_every_steps=10")


class RunFailedError(Exception):
    """A run did not end as it should; the message says how it ended."""


class Runs:
    """Runs that share one undisturbed run.

    Args:
        folder: where they write.
        environ: their environment.
        seconds: the time limit of each; one that still runs then is ended with SIGKILL.
        command: the command to which flags are added.
    """

    def __init__(self, folder, environ, seconds, command=COMMAND):
        self._folder, self._environ, self._seconds, self._command = folder, environ, seconds, command
        self._undisturbed = None

    def by_name(self):
        """Returns name → method of each comparison of two runs."""
        return {"kill_and_resume": self.kill_and_resume, "twice_the_same": self.twice_the_same}

    def kill_and_resume(self):
        """Kills a run with SIGKILL, and starts the same command again; returns (its digest, the undisturbed one).

        Raises:
            RunFailedError: a run did not end as it should.
        """
        wanted = self._digest_undisturbed()
        killed = self._environ | {faults.FAULTS: f"kill:step={_KILLED_AFTER}"}
        self._train("killed", killed, code=-signal.SIGKILL)
        return self._digest("killed"), wanted

    def twice_the_same(self):
        """Repeats a run with `--deterministic`; result and errors as for `kill_and_resume`."""
        wanted = self._digest_undisturbed()
        return self._digest("repeated"), wanted

    def _digest_undisturbed(self):
        if self._undisturbed is None:
            self._undisturbed = self._digest("undisturbed")
        return self._undisturbed

    def _digest(self, name):
        self._train(name, self._environ)
        return json.loads((self._folder / name / "summary.json").read_text())["weights_sha256"]

    def _train(self, name, environ, code=0):
        command = (*self._command, *_FLAGS, f"--run_dir={self._folder / name}")
        child = JsonLinesChild(command, environ, receive=lambda message: None)
        try:
            in_time = child.wait(self._seconds)
        finally:
            child.end()
        if not in_time:
            late = {"error": f"{name}: tfdist.train did not end within {self._seconds:g} s", "deadline": True}
            raise RunFailedError(describe_error(late))
        if child.code != code:
            last = f": {child.tail[-1]}" if child.tail else ""
            raise RunFailedError(f"{name}: tfdist.train ended with code {child.code}, not {code}{last}")
