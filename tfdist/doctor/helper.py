"""A process that loads TensorFlow for the doctor: a crash or a hang there is only a red line here."""

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading


class Helper:
    """Runs commands in `tfdist.doctor.child`. A late child gets SIGKILL, because a hanging TensorFlow ignores the rest.

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
        """Runs one command in the child.

        Args:
            command: a key of `tfdist.doctor.child.COMMANDS`.
            deadline_seconds: the time limit.
            **values: the command's arguments, of JSON types.

        Returns:
            The child's answer, a dict. Without an answer, "error" is the reason in words, "deadline" is True if the
            time was over, and "code" is the exit code of a child that ended.
        """
        if self._process is None:
            self._start()
        request = {"command": command, "values": values, "deadline_seconds": deadline_seconds}
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=deadline_seconds)
        except queue.Empty:
            self._end()
            return {"error": f"no answer within {deadline_seconds:g} s", "deadline": True}
        if line:
            return json.loads(line)
        code = self._process.wait()
        last_line = self._last_error_line()
        self._end()
        return {"error": f"its process ended with code {code}" + (f": {last_line}" if last_line else ""), "code": code}

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

    def _last_error_line(self):
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
    """Puts the lines of a stream into a queue, and then "" for its end."""
    with stream:
        for line in stream:
            answers.put(line)
    answers.put("")
