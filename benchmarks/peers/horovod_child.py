"""Runs one rank of Horovod in its own environment, which has neither tfdist nor Keras 3; asked as `tfdist.bench.child`.

Usage: python -m benchmarks.peers.horovod_child, with the variables that `horovodrun --gloo` sets. With one worker, the
step is plain TensorFlow's.
"""

import importlib
import json
import math
import os
import resource
import socket
import sys
import time


def main():
    """Answers requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    # What TensorFlow prints goes to stderr, so that it is not read as an answer.
    os.dup2(2, 1)
    child = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            child = child or Child(request)
            answer = {"start": child.start, "run": child.run}[request["do"]](request)
        # Any failure of a contender is reported in the table, and the others continue.
        except Exception as error:
            lines = str(error).strip().splitlines() or ["no message"]
            # If TensorFlow quotes a user's code, the last line is the most informative.
            answer = {
                "error": f"{type(error).__name__}: {lines[-1 if lines[0] == 'in user code:' else 0].strip()}"[:200]
            }
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)


class Child:
    """The model, the rows, and a step for each requested contender of this process.

    Args:
        request: {"contender": name, "workers": number, "config": dict of a `BenchConfig`}.
    """

    def __init__(self, request):
        import keras

        self._config = config = request["config"]
        self._workers = request["workers"]
        self._hvd = hvd = join(self._workers) if self._workers > 1 else None
        keras.utils.set_random_seed(config["seed"])
        module, _, function = config["model"].partition(":")
        self._model = getattr(importlib.import_module(module), function)()
        self._optimizer = keras.optimizers.get(config["optimizer"])
        self._optimizer.build(self._model.trainable_variables)
        self._rows_loss = keras.losses.SparseCategoricalCrossentropy(reduction="none")
        if hvd:
            hvd.broadcast_variables(self._model.variables, root_rank=0)
        self._rows = make_rows(config, rank=hvd.rank() if hvd else 0, workers=self._workers)
        self._iterator = iter(self._rows.batch(config["replica_batch"], drop_remainder=True).repeat().prefetch(-1))
        self._first_weights = self._model.get_weights()
        self._steps = {}

    def start(self, request):
        """Trains a few steps from the first weights, which also traces; returns facts and losses."""
        import keras
        import tensorflow as tf

        name = request["contender"]
        wrapped = wrap(name, self._hvd)
        self._steps[name] = tf.function(make_step(self._model, self._optimizer, self._rows_loss, wrapped))
        self._model.set_weights(self._first_weights)
        before = self._loss()
        self.run({"contender": name, "steps": request["warm_up_steps"]})
        after = self._loss()
        if not math.isfinite(after):
            raise ValueError(f"the loss is {after} after {2 * request['warm_up_steps']} steps")
        itemsize = 2 if name == "horovod_fp16" else 4
        versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
        if self._workers > 1:
            import horovod

            versions["horovod"] = horovod.__version__
        return {
            "multiple": 1,
            "loss_before": before,
            "loss_after": after,
            "global_batch": self._config["replica_batch"] * self._workers,
            "summed_bytes": sum(math.prod(v.shape) * itemsize for v in self._model.trainable_variables),
            "gathered_bytes": 0,
            "devices": {"gpus": []},
            "versions": versions,
        }

    def run(self, request):
        """Trains twice as many steps as requested; times the second half, until its loss is read."""
        step = self._steps[request["contender"]]
        for _ in range(2):
            begin = time.perf_counter()
            for _ in range(request["steps"]):
                loss = step(*next(self._iterator))
            value = float(loss)
            seconds = time.perf_counter() - begin
        # Linux counts KiB.
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"seconds": seconds, "loss": value, "peak_bytes": peak_bytes}

    def _loss(self):
        import tensorflow as tf

        x, y = next(iter(self._rows.batch(self._config["replica_batch"])))
        return float(tf.reduce_mean(self._rows_loss(y, self._model(x, training=False))))


def join(workers):
    """Meets the other ranks; rank 0 keeps the addresses, as `horovodrun` would. Returns `horovod.tensorflow`."""
    import horovod.tensorflow as hvd
    from horovod.runner.common.util import hosts
    from horovod.runner.http import http_server
    from horovod.runner.util.threads import in_thread

    address = (os.environ["HOROVOD_GLOO_RENDEZVOUS_ADDR"], int(os.environ["HOROVOD_GLOO_RENDEZVOUS_PORT"]))
    if os.environ["HOROVOD_RANK"] == "0":
        server = http_server.RendezvousHTTPServer(address, http_server.RendezvousHandler, 0)
        server.init(hosts.get_host_assignments(hosts.parse_hosts(os.environ["HOROVOD_HOSTS"]), workers))
        in_thread(target=server.serve_forever)
    wait_for(address, seconds=60)
    hvd.init()
    return hvd


def wait_for(address, seconds):
    """Waits until a server listens at the address."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(address, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def wrap(contender, hvd):
    """Returns a function tape → the tape of this contender."""
    if hvd is None:
        return lambda tape: tape
    more = {
        "horovod": {},
        "horovod_grouped": {"num_groups": 1},
        "horovod_fp16": {"compression": hvd.Compression.fp16},
    }[contender]
    return lambda tape: hvd.DistributedGradientTape(tape, **more)


def make_step(model, optimizer, rows_loss, wrapped):
    """Returns a function (x, y) → the loss of this rank's rows, which updates the weights."""
    import tensorflow as tf

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_mean(rows_loss(y, model(x, training=True))), *model.losses])
        variables = model.trainable_variables
        gradients = wrapped(tape).gradient(loss, variables)
        # This TensorFlow's autograph knows no `strict`.
        optimizer.apply_gradients(zip(gradients, variables))  # noqa: B905
        return loss

    return step


def make_rows(config, rank, workers):
    """Returns this rank's share of rows like tfdist's synthetic ones, noise around a mean per class, as a dataset."""
    import numpy as np
    import tensorflow as tf

    rows = max(config["rows"] // workers, config["replica_batch"])
    draws = np.random.RandomState(config["seed"])
    means = draws.uniform(-1, 1, (config["classes"], *config["input_shape"]))
    draws = np.random.RandomState((config["seed"], 1 + rank))
    y = draws.randint(config["classes"], size=rows).astype("int32")
    x = means[y] + draws.uniform(-1, 1, (rows, *config["input_shape"]))
    if len(config["input_shape"]) > 1:
        # Images are in 0..1, vectors in -2..2.
        x = x / 4 + 0.5
    return tf.data.Dataset.from_tensor_slices((x.astype("float32"), y))


if __name__ == "__main__":
    main()
