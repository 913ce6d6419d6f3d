"""The agents of an attempt, one for each host, whose events come through one queue."""

import pathlib

from tfdist.launch.plan import agent_command, agent_spec
from tfdist.process.child import JsonLinesChild

_CLOSE_SECONDS = 5.0


class AgentLink(JsonLinesChild):
    """The launcher's side of one agent.

    Args:
        host: None for this machine.
        command: the command that starts the agent.
        events: a `queue.SimpleQueue` for (this agent, event); the last event is "gone".
    """

    def __init__(self, host, command, events):
        self.host, self.greeted = host, False
        self._events = events
        super().__init__(command, receive=self._pass_on)

    def _pass_on(self, event):
        if event is None:
            event = {"event": "gone", "code": self.code, "tail": list(self.tail)}
        # Without this key, it is the text of a shell's start-up file.
        if "event" in event:
            self._events.put((self, event))


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
            agent.send(self._specs[agent.host])

    def send(self, **message):
        """Sends a command to every agent."""
        for agent in self.agents:
            agent.send(message)

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
