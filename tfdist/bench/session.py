"""Runs all contenders: starts them one after the other, measures them in turns, and ends them together."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from tfdist.bench import report, rounds
from tfdist.bench.config import OURS
from tfdist.bench.processes import ContenderGroup, Ended
from tfdist.measure import parts
from tfdist.process.log import say

# All train the same weights on the same batches: a larger relative difference of the loss means another training.
SAME_LOSS = 0.02


@dataclasses.dataclass
class Contender:
    """One contender on one number of replicas: its processes and its results.

    Attributes:
        make_group: starts its processes; called as `ContenderGroup` is.
    """

    contender: str
    workers: int
    replicas: int
    make_group: Callable[..., ContenderGroup] = ContenderGroup
    group: ContenderGroup | None = None
    about: dict[str, Any] | None = None
    error: str | None = None
    steps: int = 0
    peak_bytes: int | None = None
    split: dict[str, Any] | None = None

    @property
    def key(self):
        """The contender, workers and replicas, which identify it."""
        return self.contender, self.workers, self.replicas

    def ask(self, do, **more):
        """Asks its processes; returns their answer, or None if they cannot continue."""
        if self.error:
            return None
        try:
            return self.group.ask(do, **more)
        except Ended as error:
            self.error = str(error)
            return None

    def start(self, config):
        """Starts the processes, and finds a number of steps that takes long enough."""
        try:
            self.group = self.make_group(*self.key, dataclasses.asdict(config), config.timeout_seconds)
        except Ended as error:
            self.error = str(error)
        self.about = self.ask("start", warm_up_steps=config.warm_up_steps)
        if self.error:
            return
        wanted = config.seconds
        # A contender that cannot continue must not be calibrated forever.
        self.steps = rounds.calibrate(
            lambda steps: self._seconds(steps) or wanted, wanted, self.about["multiple"], config.least_steps
        )

    def end(self):
        """Ends the processes, if there are any."""
        if self.group:
            self.group.end()

    def _seconds(self, steps):
        answer = self.ask("run", steps=steps)
        if answer is None:
            return None
        self.peak_bytes = answer["peak_bytes"]
        return answer["seconds"]

    def measure(self):
        """Returns the seconds per step, or None if the contender cannot continue."""
        seconds = self._seconds(self.steps)
        return None if seconds is None else seconds / self.steps

    def measure_part(self, loop):
        """Returns the seconds per step of one of `parts.LOOPS`, or None if the contender cannot continue."""
        answer = self.ask("part", loop=loop, steps=self.steps)
        return None if answer is None else answer["seconds"]

    def take_apart(self, number):
        """Measures the parts of a step and `fit` itself, in `number` rounds."""
        measures = {name: functools.partial(self.measure_part, name) for name in parts.LOOPS}
        peak = self.peak_bytes
        samples = rounds.interleave(measures | {"fit": self.measure}, number)
        # The memory of the parts' own programs is not that of `fit`.
        self.peak_bytes = peak
        self.split = None if self.error else parts.split(samples)


def run(config, profile_folder=None):
    """Measures all contenders.

    Args:
        config: a `BenchConfig`.
        profile_folder: the folder for a profile, or None.

    Returns:
        (results, devices, notes): as `report.make_report` takes them; and lines about odd losses.
    """
    lines = [Contender(name, *point) for point in config.points for name in config.names]

    def look_closer(samples):
        take_apart(lines, config.rounds)
        if profile_folder is not None:
            lines[0].ask("profile", folder=str(profile_folder))

    return measure(lines, config, look_closer)


def take_apart(lines, number):
    """Measures the parts of tfdist's steps among the lines, in `number` rounds, where they can be measured."""
    for line in lines:
        if line.about is None:
            continue
        name = f"{line.contender} {line.workers}×{line.replicas}"
        if line.about.get("has_parts"):
            say(f"bench: measuring the parts of {name}.")
            line.take_apart(number)
        elif line.contender == OURS:
            say(f"bench: the parts of {name} cannot be measured: its step is an XLA program or the model's own.")


def measure(lines, config, after=lambda samples: None):
    """Starts lines one after the other, measures them in turns, and ends them.

    Args:
        lines: `Contender`s.
        config: a `BenchConfig`.
        after: a function (`Contender.key` → samples), called while the processes still run.

    Returns:
        (results, devices, notes), as `run`.
    """
    with contextlib.ExitStack() as stack:
        for line in lines:
            stack.callback(line.end)
            say(f"bench: starting {line.contender} {line.workers}×{line.replicas}.")
            line.start(config)
            say(f"bench: {line.contender} {line.workers}×{line.replicas} {line.error or 'is ready'}.")
        samples = rounds.interleave({line.key: line.measure for line in lines}, config.rounds, say)
        for line in lines:
            if line.about is not None and "summed_bytes" not in line.about:
                line.about |= line.ask("sent") or {}
        after(samples)
    devices = next((line.about["devices"] for line in lines if line.about), {"gpus": []})
    return _results(lines, samples), devices, _notes_on_losses(lines)


def _results(lines, samples):
    found = []
    bases = {}
    for line in lines:
        more = {"about": line.about, "peak_bytes": line.peak_bytes, "split": line.split, "error": line.error}
        base = bases.get(line.contender)
        result = report.make_result(*line.key, samples[line.key], base=base, **more)
        if (line.workers, line.replicas) == (1, 1) and not result["error"]:
            bases[line.contender] = result["examples_per_second"]["median"]
            result["efficiency"] = 1.0
        found.append(result)
    return found


def _notes_on_losses(lines):
    """Returns notes on losses that did not fall, or that differ from tfdist's after the same weights and batches.

    Another TensorFlow draws other weights, so there the loss must only fall.
    """
    notes = []
    for line in lines:
        if line.about is None:
            continue
        before, after = line.about["loss_before"], line.about["loss_after"]
        name = f"{line.contender} {line.workers}×{line.replicas}"
        if not after < before:
            notes.append(f"{name}: its loss did not fall in the warm-up ({before:.4g} → {after:.4g}).")
        ours = next((x for x in lines if x.contender == OURS and x.key[1:] == line.key[1:] and x.about), None)
        if ours is None or line.about["versions"] != ours.about["versions"]:
            continue
        expected = ours.about["loss_after"]
        if abs(after - expected) > SAME_LOSS * expected:
            notes.append(f"{name}: its loss after the warm-up is {after:.4g}, and {OURS}'s {expected:.4g}.")
    return notes
