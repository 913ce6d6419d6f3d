"""What each worker of `test_by_hand.py` runs: a loop, whole, stopped by a signal on one worker, or resumed.

Usage: python by_hand_worker.py FOLDER whole|stop|go, with TF_CONFIG set. The last line is a JSON object.
"""

import json
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import keras
import tensorflow as tf
from support import jobs

import tfdist


def main(folder, part):
    strategy = tfdist.choose_strategy("multi_worker")
    with strategy.scope():
        model = jobs.make_mlp()
        optimizer = keras.optimizers.SGD(0.5)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(reduction=None)

    @tf.function(reduce_retracing=True)
    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = tfdist.global_mean(loss_fn(y, model(x, training=True)))
        weights = model.trainable_variables
        tfdist.apply_gradients(optimizer, tape.gradient(loss, weights), weights)

    data = tfdist.data.from_arrays(*jobs.make_rows(34, "float32"), global_batch=8, seed=3)
    is_second = tfdist.read_cluster(os.environ).rank == 1
    steps = []
    with tfdist.open_run(None if part == "whole" else folder, model, optimizer, data) as run:
        for x, y in run.batches(epochs=3):
            strategy.run(train_step, args=(x, y))
            steps.append(run.steps_done)
            if part == "stop" and is_second and run.steps_done == 3:
                os.kill(os.getpid(), signal.SIGTERM)
    print(json.dumps({"weights": jobs.weights_of(model).tolist(), "first": steps[0], "last": run.steps_done}))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
