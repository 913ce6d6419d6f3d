"""Folders of runs as tfdist leaves them, made without training; the seconds of each kind are known."""

import collections
import json
import math

BEGAN = 1_764_556_377.0


class MadeRun:
    """Writes the lines of a run whose steps take a second each, and counts its seconds by kind as it goes.

    Args:
        began: when the first process began, in Unix seconds.
        name: the run's name.

    Attributes:
        lines: what is to stand in metrics.jsonl.
        seconds: kind → seconds, as they are spent; a step that is done again is booked anew when it is.
    """

    def __init__(self, began=BEGAN, *, checkpoint_every=5, steps_per_epoch=10, rate=0.1):
        self.now, self._every, self._epoch_steps, self._rate = began, checkpoint_every, steps_per_epoch, rate
        self.lines, self.seconds, self._of_steps = [], collections.Counter(), {}
        self._step, self._saved, self._attempt = 0, 0, 0

    def start(self, **more):
        """Starts a process, which takes 4 seconds until training begins."""
        began = self.now
        self.now += 4.0
        line = {"event": "start", "time": self.now, "began": began, "step": self._step, "attempt": self._attempt}
        self.lines.append(line | {"workers": 2, "replicas": 4} | more)
        if not more:
            self.seconds["start"] += 4.0

    def steps(self, count, every=5):
        """Does steps, with a line for each few, checkpoints of half a second, and validations of a quarter."""
        for _ in range(count):
            self.now += 1.0
            self._step += 1
            self._of_steps[self._step] = ["steps that count", 1.0]
            if self._step % every == 0 and self._step % self._epoch_steps:
                self.lines.append({"step": self._step, "time": self.now, **self._metrics()})
            if self._step % self._epoch_steps == 0:
                self._end_epoch()
            if self._step % self._every == 0:
                self._save()

    def _end_epoch(self):
        self.now += 0.25
        seconds = {"training": self._epoch_steps, "input": 0.5, "validation": 0.25}
        validation = {f"val_{name}": value * 1.1 for name, value in self._metrics().items() if name == "loss"}
        workers = [{"worker": rank, "own_seconds": 0.5 + rank / 10} for rank in range(2)]
        epoch = {"epoch": self._step // self._epoch_steps, "step": self._step, "time": self.now, "seconds": seconds}
        self.lines.append(epoch | self._metrics() | validation | {"input_share": 0.05, "workers": workers})
        self.seconds["validation"] += 0.25
        self.seconds["input"] += 0.5
        self.seconds["steps that count"] -= 0.5

    def _metrics(self):
        loss = math.exp(-self._rate * self._step)
        return {"loss": loss, "accuracy": 1 - loss / 2, "learning_rate": self._rate, "examples_per_second": 100.0}

    def _save(self):
        self.now += 0.5
        self.seconds["checkpoint"] += 0.5
        self._saved = self._step
        self.lines.append({"event": "checkpoint", "time": self.now, "step": self._step, "seconds": 0.5})

    def kill(self, cause="worker 1 was killed by signal 9 (SIGKILL)"):
        """Kills the run half a second into the next step, and starts it again 6 seconds later."""
        lost = self._step - self._saved
        for step in range(self._saved + 1, self._step + 1):
            del self._of_steps[step]
        self.now += 0.5
        failed = self.now
        self.seconds["repeated steps"] += lost + 0.5
        self.now += 6.0
        self._step, self._attempt = self._saved, self._attempt + 1
        self.start(cause=cause, kind="failure", failed=failed)
        self.seconds["restart"] += 10.0

    def end(self, reason="finished", **more):
        """Ends the run."""
        self.lines.append({"event": "end", "time": self.now, "step": self._step, "reason": reason, **more})

    def spent(self):
        """Returns kind → seconds, of all that was done."""
        done = collections.Counter(self.seconds)
        for kind, seconds in self._of_steps.values():
            done[kind] += seconds
        return done


def write_run(folder, run, *, config=None, summary=None):
    """Writes the lines of a `MadeRun`, a config and a summary into a folder; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in run.lines))
    given = {"model": "cnn", "learning_rate": 0.1, "exchange": "auto", "run_dir": str(folder)} | (config or {})
    (folder / "config.json").write_text(json.dumps(given))
    about = {"metrics": {"loss": 0.25, "accuracy": 0.9}, "steps": 30, "examples_per_second": 1234.5} | (summary or {})
    (folder / "summary.json").write_text(json.dumps(about))
    return folder


def killed_run():
    """Returns a `MadeRun` of three epochs with two kills, after steps 13 and 27."""
    run = MadeRun()
    run.start()
    run.steps(13)
    run.kill()
    run.steps(17)
    run.kill("worker 0 was killed by signal 9 (SIGKILL)")
    run.steps(5)
    run.end()
    return run
