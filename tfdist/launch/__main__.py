"""`python -m tfdist.launch`: makes one attempt after another, until the run is done or must end."""

import datetime
import pathlib
import queue
import signal
import sys
import time

from tfdist.cluster.ports import free_ports
from tfdist.launch import flags, plan, restarts, summary
from tfdist.launch.causes import judge, stop_code
from tfdist.launch.folders import find_folders
from tfdist.launch.screen import Screen
from tfdist.launch.watch import AttemptWatch
from tfdist.process.errors import TfdistError
from tfdist.process.exits import MISTAKE
from tfdist.run import rundir


def main(arguments=None):
    """Runs the command line; returns the exit code."""
    try:
        config = flags.read_config(sys.argv[1:] if arguments is None else arguments)
        folders = find_folders(config)
        if config.dry_run or config.tf_config_only:
            slots = plan.make_slots(config)
            workers = plan.make_workers(config, folders, slots, ports=free_ports(len(slots)))
            print(plan.text(config, workers, pathlib.Path.cwd()))
            return 0
        rundir.write_json(folders.attempts, [])
    except (TfdistError, OSError) as error:
        print(f"tfdist.launch: {error}", file=sys.stderr)
        return MISTAKE
    screen = Screen(config.quiet)
    try:
        return Launcher(config, folders, screen).run()
    except OSError as error:
        # ssh is missing, or no process can be started: the user can correct it.
        screen.warn(str(error))
        return MISTAKE
    finally:
        screen.close()


class Launcher:
    """A launch, with the history of its attempts.

    Args:
        config: a `LaunchConfig`.
        folders: its `Folders`.
        screen: a `Screen`.
    """

    def __init__(self, config, folders, screen):
        self._config, self._folders, self._screen = config, folders, screen
        self._events = queue.SimpleQueue()
        self._past, self._records = [], []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup ignores SIGHUP, and so must the launcher.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda received, _: self._events.put(_signal_event(received)))

    def run(self):
        """Starts the workers until they are done or no restart is left; returns the exit code."""
        slots = plan.make_slots(self._config)
        if self._folders.chose_run_dir:
            self._screen.say(
                f"no --run_dir is given, but the workers need the same one: adding {self._folders.command[-1]}"
            )
        if self._folders.run_dir:
            self._screen.say(f"watch the run: python -m tfdist.report --live {self._folders.run_dir}")
        while True:
            code, move = self._attempt(slots)
            if not move.slots:
                return code
            asked = self._wait(move.seconds)
            if asked is not None:
                self._screen.say("a signal ended the launch before the next start")
                return stop_code(asked)
            slots = move.slots

    def _attempt(self, slots):
        number = len(self._past)
        ports = None if self._config.hosts else free_ports(len(slots))
        workers = plan.make_workers(self._config, self._folders, slots, number, ports)
        self._screen.say(
            f"{len(workers)} worker{'s' * (len(workers) > 1)}, attempt {number}; logs in {self._folders.logs}"
        )
        began, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
        attempt = AttemptWatch(self._config, workers, number, self._events, self._screen).run()
        seconds = time.monotonic() - clock
        verdict = judge(attempt.exits, attempt.asked, attempt.stuck)
        blamed = tuple(worker.slot.number for worker in workers if worker.rank in verdict.roots)
        self._past.append(restarts.Past(verdict.kind, blamed, seconds, self._is_gone(number, verdict)))
        move = restarts.next_move(self._config, slots, self._past, attempt.asked)
        self._report(verdict, attempt, move)
        time_of_start = began.isoformat(timespec="seconds")
        entry = summary.record(
            number, workers, verdict, attempt.exits, time_of_start, seconds, attempt.failed, move.reason
        )
        self._records.append(entry)
        try:
            rundir.write_json(self._folders.attempts, self._records)
        except OSError as error:
            self._screen.warn(f"{error}; the run continues without this record")
        return verdict.code, move

    def _is_gone(self, attempt, verdict):
        """Returns whether an injected fault keeps the slot of the root cause away."""
        lost = {fault.worker for fault, gone in self._config.faults() if gone and fault.attempt == attempt}
        return bool(lost & set(verdict.roots))

    def _report(self, verdict, attempt, move):
        if verdict.kind == "done":
            self._screen.say("all workers have ended with exit code 0")
            return
        show = self._screen.say if verdict.kind in ("stopped", "preempted") else self._screen.warn
        # The message of the workers, which is the same on all, is shown once.
        shown = verdict.kind in ("mistake", "nan") and any(map(self._config.shows, verdict.roots))
        show("\n".join(summary.summarize(verdict, attempt.exits, attempt.reports, shown)))
        show(move.reason)

    def _wait(self, seconds):
        """Waits before a restart; returns the signal that ended the wait, or None."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                _, event = self._events.get(timeout=left)
            except queue.Empty:
                break
            if event["event"] == "signal":
                return event["number"]
        return None


def _signal_event(number):
    return None, {"event": "signal", "number": number}


if __name__ == "__main__":
    raise SystemExit(main())
