"""One contender in one process: asks come as JSON lines on stdin, answers go as JSON lines to stdout.

Usage: python -m tfdist.bench.child, with TF_CONFIG where there are several workers.
"""

import functools
import json
import math
import os
import sys

from tfdist.process.errors import UsageError


def main():
    """Answers until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    # Whatever TensorFlow or the model prints is no answer.
    os.dup2(2, 1)
    child = None
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            child = child or ContenderChild(ask)
            answer = child.answer(ask)
        # Whatever ends one contender is told in the table, and the others go on.
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {first_line(error)}"}
        print(json.dumps(answer), file=answers, flush=True)
    # Other workers may be gone: nothing is left to shut down in order.
    os._exit(0)


class ContenderChild:
    """What this process holds: a task and a contender.

    Args:
        ask: {"contender": name, "replicas": number, "workers": number, "config": dict}.
    """

    def __init__(self, ask):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        from tfdist.bench.config import from_dict
        from tfdist.bench.contenders import make_contender
        from tfdist.bench.task import make_task
        from tfdist.strategy import choose as strategy

        name = "multi_worker" if ask["workers"] > 1 else "mirrored" if ask["replicas"] > 1 else "one_device"
        replicas = ask["replicas"] if name == "mirrored" else None
        if name == "one_device" and not ask["contender"].startswith("tfdist_"):
            # Without tfdist nobody would put a strategy in the way of one device: stock Keras is slower with it.
            self._strategy = tf.distribute.get_strategy()
        else:
            self._strategy = strategy.choose_strategy(name, replicas=replicas)
        self._config = from_dict(ask["config"])
        self._task = make_task(self._config, self._strategy)
        self._contender = make_contender(ask["contender"], self._task)
        self._multiple = self._contender.calls_of

    def answer(self, ask):
        """Does what is asked for; gives JSON types."""
        answers = {
            "start": self._start,
            "run": self._run,
            "sent": self._sent,
            "part": self._part,
            "profile": self._profile,
        }
        return answers[ask["do"]](ask)

    def _start(self, ask):
        """Trains a few steps from the common weights, traces on the way; says what it saw."""
        from tfdist.bench.report import describe_devices
        from tfdist.cluster.fingerprint import read_versions

        before = self._loss()
        self._contender.run(ask["warm_up_steps"])
        after = self._loss()
        if not math.isfinite(after):
            raise UsageError(f"the loss is {after} after {2 * ask['warm_up_steps']} steps")
        return {
            "multiple": self._multiple,
            "loss_before": before,
            "loss_after": after,
            "global_batch": self._task.global_batch,
            "has_parts": self._parts is not None,
            "devices": describe_devices(),
            "versions": {name: version for name, version in read_versions().items() if name in ("tensorflow", "keras")},
        }

    def _run(self, ask):
        from tfdist.measure.memory import peak_bytes

        seconds = self._contender.run(ask["steps"])
        return {"seconds": seconds, "loss": self._contender.loss, "peak_bytes": peak_bytes()}

    @functools.cached_property
    def _parts(self):
        """The `Parts` of the step, where it is tfdist's own; else None."""
        from tfdist.bench.contenders import TfdistFit
        from tfdist.measure.split import Parts

        ours = isinstance(self._contender, TfdistFit) and Parts.are_known(self._task, self._contender.model)
        return Parts(self._task, self._contender.model) if ours else None

    def _sent(self, ask):
        """Says how many bytes of a step's gradients are summed over the replicas, and gathered from them."""
        variables = self._contender.model.trainable_variables
        summed, gathered = sum(math.prod(v.shape) * 4 for v in variables), 0
        if self._parts and self._strategy.num_replicas_in_sync > 1:
            summed, gathered = self._parts.sent()
        return {"summed_bytes": summed, "gathered_bytes": gathered}

    def _part(self, ask):
        return {"seconds": self._parts.seconds(ask["loop"], ask["steps"])}

    def _profile(self, ask):
        from tfdist.callbacks.profile import Profile
        from tfdist.options.run import read_steps
        from tfdist.strategy.choose import is_chief

        first, last = read_steps(self._config.profile_steps)
        folder = ask["folder"] if is_chief(self._strategy) else None
        self._contender.run(-(-last // 2), [Profile(folder, (first, last))])
        return {}

    def _loss(self):
        """Gives the loss on the first batch, as the weights are now."""
        import keras

        x, y = self._task.first_batch()
        return float(keras.losses.SparseCategoricalCrossentropy()(y, self._contender.model(x, training=False)))


def first_line(error):
    """Gives the line of an error that says most: the first, or the last of what TensorFlow tells of a user's code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    return lines[-1 if lines[0] == "in user code:" else 0][:200]


if __name__ == "__main__":
    main()
