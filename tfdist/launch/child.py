"""One worker's process, as its agent has it: started in a session of its own, drained into its log, ended whole."""

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

from tfdist.cluster.tf_config import core_shares, divide_gpus
from tfdist.launch.lines import LineSplitter
from tfdist.run import xla_cache

# What is kept of the end of a log, for the summary.
_TAIL_LINES = 60
_CHUNK_BYTES = 1 << 16
# At the end, somebody who left the session may still write: a pipe holds one chunk.
_LAST_CHUNKS = 32
_PR_SET_PDEATHSIG = 1


class Child:
    """A worker's process.

    Args:
        plan: what `plan.agent_spec` says about it.
        spec: the rest of that.
        environ: the environment to start from.

    Raises:
        OSError: the log cannot be written, or there is no such interpreter.
        ClusterError: the GPUs cannot be divided.
    """

    def __init__(self, plan, spec, environ):
        self.rank, self.shown = plan["rank"], plan["shown"]
        self.tail = collections.deque(maxlen=_TAIL_LINES)
        self._lines = LineSplitter()
        gpus = gpu_share(environ | plan["environ"], *plan["share"])
        environ = environ | plan["environ"] | gpus
        # Beside a GPU, cores only feed it: whose they are, the machine knows better.
        index, count = plan["core_share"]
        shares = None if gpus else core_shares(count)
        command = [spec["python"], *plan["command"]]
        path = pathlib.Path(plan["log"])
        path.parent.mkdir(parents=True, exist_ok=True)
        environ |= xla_cache.variables(path.parent / "xla", environ)
        # TensorFlow warns at length of each kept program that it reads, and of each GPU that is not there.
        environ = {"TF_CPP_MIN_LOG_LEVEL": "3"} | environ
        self._log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            header = _header(self.rank, spec["attempt"], command)
            # The last attempt may have ended within a line.
            self._write(b"\n" * (os.fstat(self._log).st_size > 0) + header)
            self._process = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # The agent has one thread, and this makes some system calls, no more.
                preexec_fn=_before_it_begins(os.getpid(), shares and shares[index]),  # noqa: PLW1509
            )
        except OSError:
            os.close(self._log)
            raise
        self.began = time.monotonic()
        self.pid = self._process.pid
        self.pipe = self._process.stdout.fileno()
        os.set_blocking(self.pipe, False)

    def drain(self):
        """Moves what the worker has written to its log.

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
        """Sends a signal to the worker itself: what it has started, it ends itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self):
        """Sends SIGKILL to the worker and to all that it has started in its session's group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def ended(self):
        """Says whether the worker has ended; its process id stays taken until `reap`."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def reap(self):
        """Ends what the worker has left behind, and closes its log.

        Returns:
            The exit code, -n for signal n, and the last lines for the terminal.
        """
        # Before the worker is reaped: afterwards, its group's number could be somebody else's.
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
        # A full disk must not end the run: what it does is still seen on the terminal.
        with contextlib.suppress(OSError):
            while content:
                content = content[os.write(self._log, content) :]


def gpu_share(environ, index, count):
    """Gives the variables that leave a worker its share of this host's GPUs.

    Args:
        environ: the worker's environment.
        index: which of its host's slots it has.
        count: how many slots the host has.

    Raises:
        ClusterError: there are GPUs, but they cannot be divided evenly.
    """
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if count == 1:
        return {}
    if listed is None:
        ids = sorted(int(path.name[6:]) for path in pathlib.Path("/dev").glob("nvidia[0-9]*"))
        names = [str(position) for position in range(len(ids))]
    else:
        names = [name.strip() for name in listed.split(",")]
        # CUDA ends the list at the first name that is none.
        stop = next((place for place, name in enumerate(names) if name in ("", "-1", "none", "NoDevFiles")), None)
        names = names[:stop]
    return {"CUDA_VISIBLE_DEVICES": ",".join(divide_gpus(names, count, index))} if names else {}


def _header(rank, attempt, command):
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    line = f"==== worker {rank}, attempt {attempt}, {when}, {socket.gethostname()}: {shlex.join(command)}\n"
    return line.encode(errors="replace")


def _before_it_begins(agent, cores):
    """Gives what a worker calls before it becomes itself.

    Args:
        agent: the process with which it ends, even by SIGKILL.
        cores: those that it is kept to; None for all.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask():
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != agent:
            os.kill(os.getpid(), signal.SIGKILL)
        if cores:
            os.sched_setaffinity(0, cores)

    return ask
