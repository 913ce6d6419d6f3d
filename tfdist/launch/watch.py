"""The loop over the agents' events and the launcher's signals: exits, stuck workers, and the end of an attempt."""

import contextlib
import os
import queue
import signal
import time
from dataclasses import dataclass

from tfdist.launch.agents import Group
from tfdist.launch.beats import WorkerState
from tfdist.launch.causes import Exit
from tfdist.launch.stuck import StuckWorker, find_stuck, is_hung
from tfdist.process.exits import PEER_LOST, STOPPED

# The limit for "hello" of all agents; ssh itself gives up earlier.
_GREETING_SECONDS = 60.0
# After a first failure, other workers may still fail by themselves, which shows their own causes.
_SETTLE_SECONDS = 0.5
# The exit of a worker that lost another may be reported before the exit of that other.
_SETTLE_LOST_SECONDS = 3.0
# Without a peer nothing can be saved, so the grace is shorter, and almost 0 for workers that wait for that peer.
_FAILURE_GRACE_SECONDS = 5.0
_WAITING_GRACE_SECONDS = 0.5
# Between the command "stacks" and SIGKILL.
_STACKS_SECONDS = 1.0
# The time after the grace for an agent's answer.
_ANSWER_SECONDS = 10.0
_PING_SECONDS = 10.0
_TICK_SECONDS = 0.1
_NEVER = float("inf")


@dataclass(frozen=True)
class Attempt:
    """The end of an attempt.

    Attributes:
        exits: `Exit`s in the order in which they came.
        asked: the signal that asked the launcher to end, or None.
        stuck: the `StuckWorker` of a hang, or None.
        reports: rank → the last state that its agent has reported.
        failed: when the first failure was seen, in Unix seconds; None without one.
    """

    exits: tuple[Exit, ...]
    asked: int | None
    stuck: StuckWorker | None
    reports: dict[int, WorkerState]
    failed: float | None = None


class AttemptWatch:
    """Watches one attempt, from the start of its agents to the end of the last worker.

    Args:
        config: a `LaunchConfig`.
        workers: its `Worker`s.
        attempt: the number of the attempt.
        events: the `queue.SimpleQueue` of the agents' events, and of signals as (None, {"event": "signal", …}).
        screen: a `Screen`.
    """

    def __init__(self, config, workers, attempt, events, screen):
        self._config, self._events, self._screen = config, events, screen
        self._workers = {worker.rank: worker for worker in workers}
        # Here, or where ssh fails, nothing has been started yet.
        self._running = dict(self._workers)
        self._pids, self._reports, self._exits = {}, {}, []
        self._asked = self._stuck = self._failed = None
        self._started = self._ending = False
        self._began = self._pinged = time.monotonic()
        self._stop_at = self._kill_at = self._give_up_at = _NEVER
        self._group = Group(config, workers, attempt, events)

    def run(self):
        """Runs to the end of the attempt; returns an `Attempt`. Even after an exception no worker is left."""
        try:
            while self._running:
                with contextlib.suppress(queue.Empty):
                    self._handle(*self._events.get(timeout=_TICK_SECONDS))
                self._act(time.monotonic())
        finally:
            self._group.close()
        return Attempt(tuple(self._exits), self._asked, self._stuck, self._reports, self._failed)

    def _note_failure(self):
        self._failed = self._failed or round(time.time(), 3)

    def _handle(self, agent, event):
        if agent is not None and agent not in self._group.agents:
            # The event is of an earlier attempt.
            return
        handlers = {
            "signal": self._handle_signal,
            "hello": self._handle_hello,
            "started": self._handle_start,
            "line": self._handle_line,
            "beats": self._handle_beats,
            "note": self._handle_note,
            "exit": self._handle_exit,
            "gone": self._handle_lost_agent,
        }
        handlers[event["event"]](agent, event)

    def _handle_signal(self, _, event):
        number, again = event["number"], self._asked is not None
        self._asked = number if self._asked is None else self._asked
        if not self._started:
            self._running.clear()
        elif again:
            # A second Ctrl-C asks for an immediate end; a second SIGTERM may come from a job system.
            self._kill_at = time.monotonic() if number == signal.SIGINT else self._kill_at
        else:
            grace = self._config.grace
            self._screen.say(f"{signal.Signals(number).name}: passed on; SIGKILL follows in {grace:g} s")
            self._end(number, grace)

    def _handle_hello(self, agent, _):
        agent.greeted = True
        if not self._started and all(item.greeted for item in self._group.agents):
            self._started = True
            self._group.start()

    def _handle_start(self, _, event):
        self._pids[event["rank"]] = event["pid"]

    def _handle_line(self, _, event):
        self._screen.show(event["rank"], event["text"])

    def _handle_beats(self, _, event):
        self._reports |= {int(rank): report for rank, report in event["beats"].items() if int(rank) in self._running}

    def _handle_note(self, agent, event):
        self._screen.say(f"{agent.host}: {event['text']}" if agent.host else event["text"])

    def _handle_exit(self, _, event):
        worker = self._running.pop(event["rank"], None)
        if worker is None:
            return
        code, tail = event["code"], tuple(event["tail"])
        details = {name: event.get(name) for name in ("step", "phase", "cause")}
        ended = Exit(worker, code, event["seconds"], tail, self._ending, **details)
        self._exits.append(ended)
        if code == 0 and self._running and not self._ending:
            self._screen.say(f"{worker} has ended with exit code 0; {len(self._running)} still running")
        elif code:
            self._note_failure()
            settle = {STOPPED: self._config.grace, PEER_LOST: _SETTLE_LOST_SECONDS}.get(ended.meaning, _SETTLE_SECONDS)
            self._stop_at = min(self._stop_at, time.monotonic() + settle)

    def _handle_lost_agent(self, agent, event):
        lost = [worker for worker in self._running.values() if worker.slot.host == agent.host]
        name = "ssh" if agent.host else "the agent"
        tail = (*event["tail"], f"{name} ended with exit code {event['code']}")
        for worker in lost:
            del self._running[worker.rank]
            self._exits.append(Exit(worker, None, time.monotonic() - self._began, tail, self._ending))
            if agent.host is None and worker.rank in self._pids:
                # The processes that the worker had started do not end with it.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._pids[worker.rank], signal.SIGKILL)
        if lost and self._started:
            self._note_failure()
            self._stop_at = min(self._stop_at, time.monotonic() + _SETTLE_SECONDS)
        agent.greeted = None

    def _act(self, now):
        if now - self._pinged > _PING_SECONDS:
            self._pinged = now
            self._group.send(do="ping")
        if not self._started:
            self._await_greetings(now)
            return
        if not self._ending and self._stop_at == _NEVER and self._is_hung():
            self._end_hang(now, "a worker is stuck")
        if now >= self._stop_at and not self._ending and self._others_lost_a_stopped_worker():
            self._end_hang(now, "a worker is stopped, and others have lost it")
        if now >= self._stop_at and not self._ending:
            grace = min(self._config.grace, _FAILURE_GRACE_SECONDS)
            self._end(signal.SIGTERM, grace, min(grace, _WAITING_GRACE_SECONDS))
        if now >= self._kill_at:
            self._kill_at, self._give_up_at = _NEVER, now + _ANSWER_SECONDS
            self._group.send(do="kill")
        if now >= self._give_up_at:
            self._give_up_at = _NEVER
            self._group.kill()

    def _await_greetings(self, now):
        """Ends the attempt before any worker starts, once every agent has greeted or failed and one has failed."""
        if now - self._began > _GREETING_SECONDS:
            for agent in self._group.agents:
                if not agent.greeted:
                    agent.kill()
        states = [agent.greeted for agent in self._group.agents]
        if None in states and False not in states:
            self._running.clear()

    def _is_hung(self):
        running = {rank: self._reports[rank] for rank in self._running if rank in self._reports}
        return is_hung(running, self._config.hang_seconds, self._config.first_step_seconds)

    def _others_lost_a_stopped_worker(self):
        """Returns whether TensorFlow has ended others because of a stopped worker, often long before the time limit."""
        failed = [item.code for item in self._exits if item.code]
        stopped = any(report["stopped"] for rank, report in self._reports.items() if rank in self._running)
        return stopped and set(failed) == {PEER_LOST}

    def _end_hang(self, now, why):
        self._note_failure()
        self._ending = True
        self._reports = {rank: report for rank, report in self._reports.items() if rank in self._running}
        self._stuck = find_stuck(self._reports)
        self._screen.say(f"{why}: asking all workers for their stacks")
        self._group.send(do="stacks")
        self._kill_at = now + _STACKS_SECONDS

    def _end(self, number, grace, waiting_grace=None):
        self._ending = True
        self._give_up_at = time.monotonic() + grace + _ANSWER_SECONDS
        self._group.send(do="stop", signal=int(number), grace=grace, waiting_grace=waiting_grace)
