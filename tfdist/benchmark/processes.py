"""The processes of one contender: started, asked, and ended, each by a deadline."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time

from tfdist.cluster import Cluster, Task
from tfdist.launch.plan import free_ports


class Ended(Exception):
    """A contender cannot go on: the message says why."""


class Group:
    """One contender: a process, or one a worker.

    Args:
        contender: its name.
        workers, replicas: on how many.
        config: the `BenchConfig` as a dict.
        timeout_seconds: for each answer.
    """

    def __init__(self, contender, workers, replicas, config, timeout_seconds):
        self._about = {"contender": contender, "workers": workers, "replicas": replicas, "config": config}
        self._timeout = timeout_seconds
        addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(workers)) if workers > 1 else ()
        self._members = [_Member(rank, addresses) for rank in range(workers)]

    def ask(self, do, **more):
        """Asks all workers the same; gives the chief's answer.

        Raises:
            Ended: one failed, or did not answer in time; the group has been ended.
        """
        question = self._about | {"do": do} | more
        deadline = time.monotonic() + self._timeout
        try:
            for member in self._members:
                member.tell(question)
            answers = [member.answer(deadline, self._timeout) for member in self._members]
        except Ended:
            self.end()
            raise
        return answers[0]

    def end(self):
        """Ends the processes; they hold nothing that must be saved."""
        for member in self._members:
            member.end()


class _Member:
    def __init__(self, rank, addresses):
        environ = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
        if addresses:
            environ |= Cluster({"worker": addresses}, Task("worker", rank), "bench").environment()
        # A file, not a pipe: nobody reads it unless the process ends.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `end`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tfdist.benchmark.child"],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def tell(self, question):
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(question), file=self._process.stdin, flush=True)

    def answer(self, deadline, timeout):
        try:
            line = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise Ended(f"no answer within {timeout:g} s (--timeout_seconds)") from None
        if line is None:
            raise Ended(f"its process ended with code {self._process.wait()}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Ended(answer["error"])
        return answer

    def _last_words(self):
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "no word"

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._errors.close()
