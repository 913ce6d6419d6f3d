"""A loop written by hand that is stopped and goes on ends as the loop that was never stopped, and as `fit`."""

import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs
from support.processes import REPOSITORY, run_workers

import tfdist
from tfdist.process.exits import STOPPED

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("float64")]

# Five steps an epoch, the last one of two rows.
ROWS, BATCH, PER_EPOCH = 34, 8, 5


class KilledError(Exception):
    """The end of a loop that does not return."""


def make_parts(strategy):
    with strategy.scope():
        model = jobs.make_mlp()
        optimizer = keras.optimizers.SGD(0.5, momentum=0.9, global_clipnorm=0.3)
        mean = keras.metrics.Mean("mean")
    return model, optimizer, mean


def source():
    return tfdist.data.from_arrays(*jobs.make_rows(ROWS), global_batch=BATCH, seed=3)


def stream():
    return tf.data.Dataset.from_tensor_slices(jobs.make_rows(ROWS)).batch(BATCH)


def train(strategy, run_dir=None, *, epochs=3, steps=None, data=source, look=lambda run: None, **arguments):
    """Trains; returns (the weights, the value of the tracked metric after each step, the run)."""
    model, optimizer, mean = make_parts(strategy)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(reduction=None)

    @tf.function(reduce_retracing=True)
    def train_step(x, y):
        with tf.GradientTape() as tape:
            rows = loss_fn(y, model(x, training=True))
            loss = tfdist.global_mean(rows) + tfdist.regularization(model)
        mean.update_state(rows)
        weights = model.trainable_variables
        tfdist.apply_gradients(optimizer, tape.gradient(loss, weights), weights)
        return loss

    means = []
    with tfdist.open_run(run_dir, model, optimizer, data(), track=[mean], **arguments) as run:
        for batches in run.epochs(**({"steps": steps} if steps else {"epochs": epochs})):
            for x, y in batches:
                run.log(loss=strategy.run(train_step, args=(x, y)))
                means.append(float(mean.result()))
                look(run)
            mean.reset_state()
    return jobs.weights_of(model), means, run


def kill_after(count):
    seen = []

    def look(run):
        seen.append(run.steps_done)
        if len(seen) == count:
            raise KilledError

    return look


@pytest.fixture(scope="module")
def undisturbed():
    """Returns a function (strategy, data) → the weights and metrics of the loop that was never stopped, made once."""
    results = {}

    def train_whole(strategy, data=source):
        key = strategy.num_replicas_in_sync, data
        if key not in results:
            results[key] = train(strategy, data=data)[:2]
        return results[key]

    return train_whole


@pytest.mark.parametrize(
    ("replicas", "at", "data"), [(1, 3, source), (3, 3, source), (3, 5, source), (3, 7, source), (3, 7, stream)]
)
def test_a_killed_loop_goes_on_at_the_very_row(make_strategy, undisturbed, tmp_path, replicas, at, data):
    strategy = make_strategy(replicas)
    whole, means = undisturbed(strategy, data)
    with pytest.raises(KilledError):
        train(strategy, tmp_path, data=data, checkpoint_every_steps=2, look=kill_after(at))
    resumed, rest, run = train(strategy, tmp_path, data=data, resume="must", checkpoint_every_steps=2)
    np.testing.assert_array_equal(resumed, whole)
    # The tracked metric goes on within the epoch.
    assert rest == means[-len(rest) :]
    # The step during which the loop was killed is not done.
    assert (run.steps_done, len(rest)) == (3 * PER_EPOCH, 3 * PER_EPOCH - {3: 2, 5: 4, 7: 6}[at])


def test_the_loop_is_that_of_plain_keras(make_strategy):
    def clipped_mlp():
        return jobs.make_mlp(keras.optimizers.SGD(0.5, momentum=0.9, global_clipnorm=0.3))

    plain, _ = jobs.train_plainly(source(), epochs=3, make_model=clipped_mlp)
    weights, _, run = train(make_strategy(2))
    np.testing.assert_allclose(weights, jobs.weights_of(plain), rtol=0, atol=1e-9)
    assert run.examples_per_second > 0


@pytest.mark.parametrize("at", [0, 4])
def test_a_signal_ends_the_loop_after_the_step_which_is_saved(make_strategy, undisturbed, tmp_path, at):
    def look(run):
        if run.steps_done == at:
            os.kill(os.getpid(), signal.SIGTERM)

    strategy = make_strategy(3)
    whole, _ = undisturbed(strategy)
    with pytest.raises(SystemExit) as ended:
        train(strategy, tmp_path, look=look)
    assert ended.value.code == STOPPED
    resumed, rest, run = train(strategy, tmp_path)
    np.testing.assert_array_equal(resumed, whole)
    assert (len(rest), run.steps_done) == (3 * PER_EPOCH - at - 1, 3 * PER_EPOCH)


def test_a_run_that_is_over_has_nothing_left_and_its_summary_stays(make_strategy, tmp_path):
    weights, *_ = train(make_strategy(2), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["steps"], summary["replicas"], summary["strategy"]) == (15, 2, "MirroredStrategy")
    assert summary["metrics"]["loss"] > 0 and summary["examples_per_second"] > 0
    again, rest, _ = train(make_strategy(2), tmp_path)
    np.testing.assert_array_equal(again, weights)
    after = json.loads((tmp_path / "summary.json").read_text())
    assert (rest, after["steps"], after["weights_sha256"]) == ([], 15, summary["weights_sha256"])
    assert after["metrics"] == summary["metrics"]
    _, rest, run = train(make_strategy(2), tmp_path, steps=17)
    assert (len(rest), run.steps_done, run.epoch) == (2, 17, 3)


def test_stop_ends_the_loop_and_leaving_an_epoch_is_refused(make_strategy, tmp_path):
    def stop(run):
        if run.steps_done == 6:
            run.stop()

    _, means, run = train(make_strategy(1), tmp_path / "stopped", look=stop)
    assert (len(means), run.steps_done) == (7, 7)
    # The next start goes on with the next row.
    whole, _, _ = train(make_strategy(1))
    weights, rest, _ = train(make_strategy(1), tmp_path / "stopped", resume="must")
    assert len(rest) == 3 * PER_EPOCH - 7
    np.testing.assert_array_equal(weights, whole)
    model, optimizer, _ = make_parts(make_strategy(1))
    with (
        pytest.raises(RuntimeError, match=r"left epoch 0 before its last batch. Call run.stop\(\)"),
        tfdist.open_run(None, model, optimizer, source()) as run,
    ):
        for batches in run.epochs(2):
            next(batches)
    with pytest.raises(RuntimeError, match="the batches of this run were taken before"):
        next(run.batches(epochs=3))


def test_callbacks_see_the_loop(make_strategy):
    class Look(tfdist.callbacks.Callback):
        def on_step_end(self, step, logs=None):
            seen.append((step, logs["loss"]))

        def on_epoch_end(self, epoch, logs=None):
            seen.append((f"epoch {epoch}", logs["loss"]))
            self.model.stop_training = epoch == 1

    seen = []
    train(make_strategy(2), callbacks=[Look()], epochs=5)
    assert [name for name, _ in seen] == [1, 2, 3, 4, 5, "epoch 0", 6, 7, 8, 9, 10, "epoch 1"]
    assert seen[4][1] == seen[5][1]


def test_what_is_tracked_is_restored(make_strategy, tmp_path):
    model, optimizer, _ = make_parts(make_strategy(2))
    with model.distribute_strategy.scope():
        counter = keras.Variable(0.0)
    for epochs in (1, 2):
        with tfdist.open_run(tmp_path, model, optimizer, source(), track=[counter]) as run:
            for _ in run.batches(epochs=epochs):
                counter.assign_add(1.0)
        assert float(counter.numpy()) == epochs * PER_EPOCH
        counter.assign(-1.0)


def test_two_workers_stop_together_and_go_on(tmp_path):
    script = REPOSITORY / "tests" / "support" / "by_hand_worker.py"
    whole, stopped, resumed = (run_workers(script, tmp_path / "run", part) for part in ("whole", "stop", "go"))
    assert [ended.code for ended in stopped] == [STOPPED, STOPPED], stopped[0].err[-3000:]
    assert [ended.code for ended in (*whole, *resumed)] == [0] * 4, resumed[0].err[-3000:]
    results = [json.loads(ended.out.splitlines()[-1]) for ended in (*whole, *resumed)]
    assert all(result["weights"] == results[0]["weights"] for result in results)
    # The signal comes during the fourth step, which is done and saved.
    assert [(result["first"], result["last"]) for result in results] == [(0, 15), (0, 15), (4, 15), (4, 15)]


def test_a_tracked_metric_that_is_never_reset_goes_on_over_epochs(make_strategy, tmp_path):
    def count(epochs):
        model, optimizer, _ = make_parts(make_strategy(2))
        with model.distribute_strategy.scope():
            total = keras.metrics.Sum()
        with tfdist.open_run(tmp_path, model, optimizer, source(), track=[total]) as run:
            for _ in run.batches(epochs=epochs):
                total.update_state(1.0)
        return float(total.result())

    assert [count(1), count(3), count(3)] == [PER_EPOCH, 3 * PER_EPOCH, 3 * PER_EPOCH]


@pytest.mark.parametrize("make", [lambda: keras.layers.Dense(3), lambda: {"empty": []}, lambda: None])
def test_what_cannot_be_saved_is_refused_at_once(make_strategy, make):
    model, optimizer, _ = make_parts(make_strategy(1))
    item = make()
    with (
        pytest.raises(ValueError, match="which has no variables yet"),
        tfdist.open_run(None, model, optimizer, source(), track=[item]),
    ):
        pass


@pytest.mark.parametrize("value", [None, "hi", np.ones(3), {"a": 1}], ids=repr)
def test_what_is_no_number_is_not_logged(make_strategy, value):
    model, optimizer, _ = make_parts(make_strategy(1))
    with (
        pytest.raises(ValueError, match=r"log\(loss=…\) was given .*\. Give a number\."),
        tfdist.open_run(None, model, optimizer, source()) as run,
    ):
        run.log(loss=value)


def test_a_break_is_refused_because_its_step_is_not_saved(make_strategy):
    model, optimizer, _ = make_parts(make_strategy(1))
    with (
        pytest.raises(RuntimeError, match=r"the loop was left in epoch 0, .* call run.stop\(\)"),
        tfdist.open_run(None, model, optimizer, source()) as run,
    ):
        for _ in run.batches(epochs=2):
            break
