"""The agents of an attempt, one a host: started, told, and heard through one queue."""

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
        command: what starts it.
        events: a `queue.SimpleQueue` for (this agent, event), "gone" being the last.
    """

    def __init__(self, host, command, events):
        self.host, self.greeted = host, False
        self._events = events
        self._stray = []
        self._orders = queue.SimpleQueue()
        # A session of its own: Ctrl-C is the launcher's to pass on.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._errors = self._run(self._read_errors)
        self._run(self._read_events)
        self._run(self._write_orders)

    def tell(self, **message):
        """Sends an order; waits for nothing."""
        self._orders.put(message)

    def close(self):
        """Closes its standard input: it ends its workers and itself."""
        self._orders.put(None)

    def kill(self):
        """Ends the agent's own process, or ssh's."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self, seconds):
        """Waits for its end; says whether it came."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def _run(self, target):
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        return thread

    def _read_events(self):
        for line in self._process.stdout:
            event = parse_event(line)
            if event is None:
                self._note(line)
            else:
                self._events.put((self, event))
        code = self._process.wait()
        # Not for ever: what ssh leaves in the background may hold it open.
        self._errors.join(1)
        self._events.put((self, {"event": "gone", "code": code, "tail": list(self._stray)}))

    def _read_errors(self):
        for line in self._process.stderr:
            self._note(line)

    def _note(self, line):
        self._stray = [*self._stray, line.decode(errors="replace").rstrip()][-_STRAY_LINES:]

    def _write_orders(self):
        with contextlib.suppress(OSError), self._process.stdin as pipe:
            while (order := self._orders.get()) is not None:
                pipe.write(json.dumps(order).encode() + b"\n")
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
        """Lets every agent start its workers."""
        for agent in self.agents:
            agent.tell(**self._specs[agent.host])

    def tell(self, **message):
        """Sends an order to every agent."""
        for agent in self.agents:
            agent.tell(**message)

    def kill(self):
        """Ends agents that do not answer."""
        for agent in self.agents:
            agent.kill()

    def close(self):
        """Ends all agents, by closing their standard input or else by SIGKILL."""
        for agent in self.agents:
            agent.close()
        for agent in self.agents:
            if not agent.wait(_CLOSE_SECONDS):
                agent.kill()
                agent.wait(_CLOSE_SECONDS)
