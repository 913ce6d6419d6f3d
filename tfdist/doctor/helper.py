"""A process that loads TensorFlow in place of the doctor: what breaks there, or hangs, is only a red line here."""

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading


class Helper:
    """Asks `tfdist.doctor.child`, which ends with SIGKILL when it is late: a hanging TensorFlow hears nothing else.

    Args:
        environ: the environment of the child.
    """

    def __init__(self, environ):
        self._environ = environ
        self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._end()

    def ask(self, command, *, deadline_seconds, **values):
        """Asks for one thing.

        Args:
            command: a key of `tfdist.doctor.child.COMMANDS`.
            deadline_seconds: the time there is.
            **values: the command's arguments, of JSON types.

        Returns:
            The child's answer, a dict. Where there is none: "error" says why in words, "deadline" whether the time was
            over, "code" is the exit code of a child that ended.
        """
        if self._process is None:
            self._start()
        wish = {"command": command, "values": values, "deadline_seconds": deadline_seconds}
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(wish) + "\n")
            self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=deadline_seconds)
        except queue.Empty:
            self._end()
            return {"error": f"no answer within {deadline_seconds:g} s", "deadline": True}
        if line:
            return json.loads(line)
        code = self._process.wait()
        words = self._last_words()
        self._end()
        return {"error": f"its process ended with code {code}" + (f": {words}" if words else ""), "code": code}

    def _start(self):
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed in _end)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tfdist.doctor.child"],
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=_pass_on, args=(self._process.stdout, self._answers), daemon=True).start()

    def _last_words(self):
        self._errors.seek(0)
        lines = self._errors.read().split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")

    def _end(self):
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._errors.close()
        self._process = None


def _pass_on(stream, answers):
    """Passes lines on, and then one empty text."""
    with stream:
        for line in stream:
            answers.put(line)
    answers.put("")
