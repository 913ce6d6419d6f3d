"""Runs one contender in one process, which is asked by a `ContenderGroup`.

Usage: python -m tfdist.bench.child, with TF_CONFIG for several workers.
"""

import functools
import math
import os

from tfdist.process.child import serve
from tfdist.process.errors import UsageError
from tfdist.process.versions import read_versions


class ContenderChild:
    """The task and the contender of this process; the first request makes them."""

    def __init__(self):
        self._contender = None

    def answer(self, request):
        """Does what is requested; returns JSON types.

        Args:
            request: {"do": …, "contender": name, "replicas": number, "workers": number, "config": dict, …}.
        """
        if self._contender is None:
            self._make(request)
        answers = {
            "start": self._start,
            "run": self._run,
            "sent": self._sent,
            "part": self._part,
            "profile": self._profile,
        }
        return answers[request["do"]](request)

    def _make(self, request):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        from tfdist.bench.config import from_dict
        from tfdist.bench.contenders import make_contender
        from tfdist.bench.task import make_task
        from tfdist.strategy import choose as strategy

        name = "multi_worker" if request["workers"] > 1 else "mirrored" if request["replicas"] > 1 else "one_device"
        replicas = request["replicas"] if name == "mirrored" else None
        if name == "one_device" and not request["contender"].startswith("tfdist_"):
            # Without tfdist a user would use no strategy for one device: stock Keras is slower with one.
            self._strategy = tf.distribute.get_strategy()
        else:
            self._strategy = strategy.choose_strategy(name, replicas=replicas, alone="TF_CONFIG" not in os.environ)
        self._config = from_dict(request["config"])
        self._task = make_task(self._config, self._strategy)
        self._contender = make_contender(request["contender"], self._task)
        self._multiple = self._contender.calls_of

    def _start(self, request):
        """Trains a few steps from the common weights, which also traces; returns facts and losses."""
        from tfdist.bench.report import describe_devices

        before = self._loss()
        self._contender.run(request["warm_up_steps"])
        after = self._loss()
        if not math.isfinite(after):
            raise UsageError(f"the loss is {after} after {2 * request['warm_up_steps']} steps")
        return {
            "multiple": self._multiple,
            "loss_before": before,
            "loss_after": after,
            "global_batch": self._task.global_batch,
            "has_parts": self._parts is not None,
            "devices": describe_devices(),
            "versions": {name: version for name, version in read_versions().items() if name in ("tensorflow", "keras")},
        }

    def _run(self, request):
        from tfdist.measure.memory import peak_bytes

        seconds = self._contender.run(request["steps"])
        return {"seconds": seconds, "loss": self._contender.loss, "peak_bytes": peak_bytes()}

    @functools.cached_property
    def _parts(self):
        """The `Parts` of the step, if it is tfdist's own; otherwise None."""
        from tfdist.bench.contenders import TfdistFit
        from tfdist.measure.split import Parts

        ours = isinstance(self._contender, TfdistFit) and Parts.are_known(self._task, self._contender.model)
        return Parts(self._task, self._contender.model) if ours else None

    def _sent(self, request):
        """Returns the bytes of a step's gradients that are summed over the replicas, and those that are gathered."""
        variables = self._contender.model.trainable_variables
        summed, gathered = sum(math.prod(v.shape) * 4 for v in variables), 0
        if self._parts and self._strategy.num_replicas_in_sync > 1:
            summed, gathered = self._parts.sent()
        return {"summed_bytes": summed, "gathered_bytes": gathered}

    def _part(self, request):
        return {"seconds": self._parts.seconds(request["loop"], request["steps"])}

    def _profile(self, request):
        from tfdist.callbacks.profile import Profile
        from tfdist.options.run import read_steps
        from tfdist.strategy.workers import Workers

        first, last = read_steps(self._config.profile_steps)
        folder = request["folder"] if Workers.of(self._strategy).is_chief else None
        self._contender.run(-(-last // 2), [Profile(folder, (first, last))])
        return {}

    def _loss(self):
        """Returns the loss on the first batch with the current weights."""
        import keras

        x, y = self._task.first_batch()
        return float(keras.losses.SparseCategoricalCrossentropy()(y, self._contender.model(x, training=False)))


if __name__ == "__main__":
    serve(ContenderChild().answer)
