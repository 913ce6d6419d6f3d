"""The agents of an attempt, one for each host, whose events come through one queue."""

import contextlib
import json
import os
import pathlib
import queue
import signal
import subprocess
import threading

from tfdist.launch.plan import agent_command, agent_spec
from tfdist.launch.wire import parse_event

_CLOSE_SECONDS = 5.0
_STRAY_LINES = 20


class AgentLink:
    """The launcher's side of one agent.

    Args:
        host: None for this machine.
        command: the command that starts the agent.
        events: a `queue.SimpleQueue` for (this agent, event); the last event is "gone".
    """

    def __init__(self, host, command, events):
        self.host, self.greeted = host, False
        self._events = events
        self._stray = []
        self._commands = queue.SimpleQueue()
        # In its own session, so that only the launcher receives Ctrl-C and passes it on.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._errors = self._start_thread(self._read_errors)
        self._start_thread(self._read_events)
        self._start_thread(self._write_commands)

    def send(self, **message):
        """Sends a command without waiting."""
        self._commands.put(message)

    def close(self):
        """Closes the agent's standard input, at which it ends its workers and itself."""
        self._commands.put(None)

    def kill(self):
        """Ends the process of the agent, or of ssh, with SIGKILL."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self, seconds):
        """Waits for the end of the agent; returns whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def _start_thread(self, target):
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        return thread

    def _read_events(self):
        for line in self._process.stdout:
            event = parse_event(line)
            if event is None:
                self._keep_stray(line)
            else:
                self._events.put((self, event))
        code = self._process.wait()
        # With a limit, because a background process of ssh may keep stderr open.
        self._errors.join(1)
        self._events.put((self, {"event": "gone", "code": code, "tail": list(self._stray)}))

    def _read_errors(self):
        for line in self._process.stderr:
            self._keep_stray(line)

    def _keep_stray(self, line):
        self._stray = [*self._stray, line.decode(errors="replace").rstrip()][-_STRAY_LINES:]

    def _write_commands(self):
        with contextlib.suppress(OSError), self._process.stdin as pipe:
            while (message := self._commands.get()) is not None:
                pipe.write(json.dumps(message).encode() + b"\n")
                pipe.flush()


class Group:
    """The agents of an attempt.

    Args:
        config: a `LaunchConfig`.
        workers: the `Worker`s of the attempt.
        attempt: its number.
        events: a `queue.SimpleQueue`.
    """

    def __init__(self, config, workers, attempt, events):
        self._specs = {}
        for worker in workers:
            self._specs.setdefault(worker.slot.host, []).append(worker)
        self._specs = {host: agent_spec(config, mine, attempt) for host, mine in self._specs.items()}
        self.agents = [AgentLink(host, agent_command(config, host, pathlib.Path.cwd()), events) for host in self._specs]

    def start(self):
        """Sends every agent the command to start its workers."""
        for agent in self.agents:
            agent.send(**self._specs[agent.host])

    def send(self, **message):
        """Sends a command to every agent."""
        for agent in self.agents:
            agent.send(**message)

    def kill(self):
        """Ends all agents with SIGKILL."""
        for agent in self.agents:
            agent.kill()

    def close(self):
        """Ends all agents, first by closing their standard input, then by SIGKILL."""
        for agent in self.agents:
            agent.close()
        for agent in self.agents:
            if not agent.wait(_CLOSE_SECONDS):
                agent.kill()
                agent.wait(_CLOSE_SECONDS)
