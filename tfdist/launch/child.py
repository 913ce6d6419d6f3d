"""One worker's process: its agent starts it in its own session, writes its output to a log, and ends it completely."""

import collections
import contextlib
import ctypes
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import time

from tfdist.cluster.cores import core_shares
from tfdist.launch.devices import gpu_share
from tfdist.launch.lines import LineSplitter
from tfdist.run import xla_cache

# The lines at the end of a log that are kept for the summary.
_TAIL_LINES = 60
_CHUNK_BYTES = 1 << 16
# Limited, because a process that left the session may still write. A pipe holds one chunk.
_LAST_CHUNKS = 32
_PR_SET_PDEATHSIG = 1


class Child:
    """A worker's process.

    Args:
        plan: its entry in `plan.agent_spec`.
        spec: the whole `plan.agent_spec`.
        environ: the environment variables to start from.

    Raises:
        OSError: the log cannot be written, or the interpreter does not exist.
        UsageError: the GPUs cannot be divided.
    """

    def __init__(self, plan, spec, environ):
        self.rank, self.shown = plan["rank"], plan["shown"]
        self.tail = collections.deque(maxlen=_TAIL_LINES)
        self._lines = LineSplitter()
        share = gpu_share(environ | plan["environ"], *plan["share"])
        environ = environ | plan["environ"] | share
        # With GPUs, the cores only feed them, and the operating system assigns cores better.
        index, count = plan["core_share"]
        shares = None if share else core_shares(count)
        command = [spec["python"], *plan["command"]]
        path = pathlib.Path(plan["log"])
        path.parent.mkdir(parents=True, exist_ok=True)
        environ |= xla_cache.variables(path.parent / "xla", environ)
        # TensorFlow logs long warnings for each kept program that it reads, and for missing GPUs.
        environ = {"TF_CPP_MIN_LOG_LEVEL": "3"} | environ
        self._log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            header = _header(self.rank, spec["attempt"], command)
            # The last attempt may have ended in the middle of a line.
            self._write(b"\n" * (os.fstat(self._log).st_size > 0) + header)
            self._process = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Safe here, because the agent has one thread, and the function only makes system calls.
                preexec_fn=_make_preexec(os.getpid(), shares and shares[index]),  # noqa: PLW1509
            )
        except OSError:
            os.close(self._log)
            raise
        self.began = time.monotonic()
        self.pid = self._process.pid
        self.pipe = self._process.stdout.fileno()
        os.set_blocking(self.pipe, False)

    def drain(self):
        """Writes the worker's new output to its log.

        Returns:
            Lines for the terminal; None at the end of the pipe.
        """
        try:
            content = os.read(self.pipe, _CHUNK_BYTES)
        except BlockingIOError:
            return []
        if not content:
            return None
        self._write(content)
        lines = self._lines.feed(content)
        self.tail.extend(lines)
        return lines

    def signal(self, number):
        """Sends a signal to the worker itself, which has to end the processes that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self):
        """Sends SIGKILL to the worker and to all processes of its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def ended(self):
        """Returns whether the worker has ended; its process id is not reused before `reap`."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def reap(self):
        """Ends the processes that the worker has left behind, and closes its log.

        Returns:
            The exit code, -n for signal n, and the last lines for the terminal.
        """
        # Before the worker is reaped, because afterwards another process group could have its number.
        self.kill()
        shown = []
        for _ in range(_LAST_CHUNKS):
            lines = self.drain()
            if not lines:
                break
            shown += lines
        last = [line for line in self._lines.rest() if line]
        self.tail.extend(last)
        code = self._process.wait()
        self._process.stdout.close()
        os.close(self._log)
        return code, shown + last

    def _write(self, content):
        # A full disk must not end the run, whose output is still shown on the terminal.
        with contextlib.suppress(OSError):
            while content:
                content = content[os.write(self._log, content) :]


def _header(rank, attempt, command):
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    line = f"==== worker {rank}, attempt {attempt}, {when}, {socket.gethostname()}: {shlex.join(command)}\n"
    return line.encode(errors="replace")


def _make_preexec(agent, cores):
    """Returns the function that a worker's process calls before it runs its command; None except on Linux.

    Args:
        agent: the process id of the agent; the worker ends with it, even if SIGKILL ends the agent.
        cores: the cores on which it may run; None for all.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def prepare():
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != agent:
            os.kill(os.getpid(), signal.SIGKILL)
        if cores:
            os.sched_setaffinity(0, cores)

    return prepare
