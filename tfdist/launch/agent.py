"""`python -m tfdist.launch.agent`: runs one host's workers for a launcher on this machine or at the end of an ssh.

It reads JSON lines: {"do": "start", …} (see `plan.agent_spec`), "stop" with a signal, a grace and optionally a shorter
one for workers that wait for others, "kill", "stacks", "ping". It writes JSON lines: the events hello, note, started,
line, beats, exit. When its standard input closes, it ends its workers, so that no process is left when the launcher or
the connection ends.
"""

import contextlib
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time

from tfdist.launch.beats import BeatReader
from tfdist.launch.child import Child
from tfdist.launch.devices import describe
from tfdist.launch.wire import Outbox, read_messages
from tfdist.process import errors, heartbeat
from tfdist.process.exits import MISTAKE

_BEAT_SECONDS = 0.5
_TICK_SECONDS = 0.25
_NEVER = float("inf")


class Agent:
    """The loop of an agent: one thread, without blocking calls.

    Args:
        source: the file descriptor from which commands are read.
        target: the file descriptor to which events are written.
    """

    def __init__(self, source, target):
        self._source, self._partial = source, b""
        os.set_blocking(source, False)
        self._out = Outbox(target)
        self._children = {}
        self._spec = {}
        self._folder = tempfile.mkdtemp(prefix="tfdist-")
        self._beats = BeatReader(self._folder)
        self._selector = selectors.DefaultSelector()
        self._selector.register(source, selectors.EVENT_READ, self._read)
        self._last_input = self._last_beats = time.monotonic()
        self._kill_at = self._kill_waiting_at = _NEVER
        self._is_ending = False
        self._wake_on_signals()

    def run(self):
        """Runs until all workers have ended; if the launcher is gone, ends them first."""
        try:
            self._out.put(event="hello")
            while not self._done():
                for key, _ in self._selector.select(_TICK_SECONDS if self._out.flush() else _TICK_SECONDS / 10):
                    key.data()
                self._check_workers()
        finally:
            for child in self._children.values():
                child.kill()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _done(self):
        if self._children:
            return False
        return self._is_ending or (bool(self._spec) and self._out.flush())

    def _check_workers(self):
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.ended():
                self._report_exit(child)
        if now >= self._kill_at:
            for child in self._children.values():
                child.kill()
        if now >= self._kill_waiting_at:
            for rank, report in self._beats.report(self._children).items():
                if report["phase"] in heartbeat.TOGETHER:
                    self._children[rank].kill()
        if self._out.broken or now - self._last_input > self._spec.get("silence_seconds", _NEVER):
            self._end()
        if self._children and now - self._last_beats > _BEAT_SECONDS and self._out.empty:
            self._last_beats = now
            self._out.put(event="beats", beats=self._beats.report(self._children))

    def _wake_on_signals(self):
        """Ends the wait when a worker ends, so that exits are reported in their order."""
        inner, outer = socket.socketpair()
        inner.setblocking(False)
        outer.setblocking(False)
        self._sockets = inner, outer
        signal.set_wakeup_fd(outer.fileno(), warn_on_full_buffer=False)
        # Not SIG_IGN, because the workers would inherit it and ignore Ctrl-C.
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._end())
        self._selector.register(inner, selectors.EVENT_READ, lambda: inner.recv(4096))

    def _read(self):
        try:
            content = os.read(self._source, 1 << 16)
        except BlockingIOError:
            return
        self._last_input = time.monotonic()
        if not content:
            self._selector.unregister(self._source)
            self._end()
            return
        messages, self._partial = read_messages(self._partial + content)
        for message in messages:
            self._execute(message)

    def _execute(self, message):
        action = message["do"]
        if action == "start":
            self._spec = message
            self._report_devices(message["workers"][0])
            for plan in message["workers"]:
                self._start(plan)
        elif action == "stop":
            self._stop(message["signal"], message["grace"], message["waiting_grace"])
        elif action == "kill":
            self._kill_at = time.monotonic()
        elif action == "stacks":
            # tfdist's workers write their stacks on SIGQUIT; it ends other programs a moment before SIGKILL.
            self._signal(signal.SIGQUIT)

    def _report_devices(self, plan):
        if text := describe(os.environ | plan["environ"], plan["share"][1]):
            self._out.put(event="note", text=text)

    def _start(self, plan):
        environ = os.environ | {heartbeat.FOLDER: self._folder, errors.CAUSES: self._folder}
        try:
            child = Child(plan, self._spec, environ)
        except (OSError, errors.UsageError) as error:
            self._report_failed_start(plan, f"tfdist.launch: {error}")
            return
        self._children[child.rank] = child
        self._selector.register(child.pipe, selectors.EVENT_READ, lambda: self._drain(child))
        self._out.put(event="started", rank=child.rank, pid=child.pid)

    def _report_failed_start(self, plan, message):
        if plan["shown"]:
            self._out.put_lines(plan["rank"], [message])
        self._out.put(event="exit", rank=plan["rank"], code=MISTAKE, tail=[message], seconds=0)

    def _drain(self, child):
        lines = child.drain()
        if lines is None:
            # The worker has closed its output, but may still run.
            self._selector.unregister(child.pipe)
        elif child.shown:
            self._out.put_lines(child.rank, lines)

    def _report_exit(self, child):
        with contextlib.suppress(KeyError):
            self._selector.unregister(child.pipe)
        beat = self._beats.report({child.rank: child})[child.rank]
        seconds = time.monotonic() - child.began
        code, lines = child.reap()
        del self._children[child.rank]
        if child.shown:
            self._out.put_lines(child.rank, lines)
            self._out.put_missed(child.rank)
        details = {"step": beat["step"], "phase": beat["phase"], "cause": errors.read_cause(self._folder, child.pid)}
        self._out.put(event="exit", rank=child.rank, code=code, tail=list(child.tail), seconds=seconds, **details)

    def _signal(self, number):
        for child in self._children.values():
            child.signal(number)

    def _stop(self, number, grace, waiting_grace=None):
        self._signal(number)
        now = time.monotonic()
        self._kill_at = min(self._kill_at, now + grace)
        if waiting_grace is not None:
            self._kill_waiting_at = min(self._kill_waiting_at, now + waiting_grace)

    def _end(self):
        if not self._is_ending:
            self._is_ending = True
            self._stop(signal.SIGTERM, self._spec.get("grace", 0))


if __name__ == "__main__":
    Agent(sys.stdin.fileno(), sys.stdout.fileno()).run()
