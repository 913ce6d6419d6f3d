"""Checks two real workers on loopback against plain Keras in one process."""

import hashlib
import json

import keras
import numpy as np
import pytest
from support import jobs
from support.processes import run_workers
from support.small_files import ROWS, write_example_images, write_images, write_tfds
from support.worker_jobs import training

from tfdist.train import command as train

pytestmark = [pytest.mark.core, pytest.mark.multi_worker, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the two workers read and write."""
    folder = tmp_path_factory.mktemp("workers")
    write_tfds(folder / "tfds")
    write_images(folder / "images")
    write_example_images(folder / "records")
    return folder


@pytest.fixture
def both(two_workers):
    """Returns a function (job, *arguments) → what the job returned on each of the two workers."""
    return lambda *job: [done.value for done in two_workers(*job)]


def assert_same(results, expected):
    for weights in results:
        np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("global_batch", [20, 34])
def test_promise_01_two_workers_end_with_the_weights_of_one_process(both, float64, global_batch):
    plain, history = jobs.train_plainly(jobs.small_source(global_batch))
    for weights, losses in both(training.fit, global_batch):
        np.testing.assert_allclose(weights, jobs.weights_of(plain), rtol=0, atol=1e-9)
        np.testing.assert_allclose(losses, history["loss"], atol=1e-6)


def test_promise_01_two_workers_evaluate_and_predict_what_one_process_does(both, float64):
    plain, _ = jobs.train_plainly(jobs.small_source(34))
    x, y = jobs.make_rows()
    for evaluation, outputs, _, _ in both(training.evaluate_and_predict):
        np.testing.assert_allclose(evaluation, plain.evaluate(x[:31], y[:31], verbose=0), atol=1e-6)
        np.testing.assert_allclose(outputs, plain.predict(x[:31], verbose=0), rtol=0, atol=1e-9)


def test_a_worker_may_predict_its_own_rows_alone_and_all_workers_together_every_row_once(both):
    results = both(training.evaluate_and_predict)
    places = [places for _, _, places, _ in results]
    assert sorted(np.concatenate(places)) == list(range(31))
    assert list(map(len, places)) == [15, 16]
    for _, outputs, own_places, own_outputs in results:
        np.testing.assert_array_equal(own_outputs, outputs[own_places])


@pytest.mark.parametrize(("order", "warnings"), [("same", 0), ("other", 1)])
def test_promise_24_data_in_another_order_on_each_worker_is_warned_of(both, order, warnings):
    assert list(map(len, both(training.warnings_of_data, order))) == [warnings] * 2


def test_promise_25_workers_with_10_and_4_rows_of_their_own_train_on_all_14(both, float64):
    plain = jobs.make_mlp()
    for _ in range(2):
        for x, y in jobs.rows_of_uneven_shards():
            plain.train_on_batch(x, y)
    assert_same(both(training.uneven_shards), jobs.weights_of(plain))


def test_two_workers_share_batchnorm_statistics(both, float64):
    plain, _ = jobs.train_plainly(jobs.small_source(34), make_model=jobs.make_batchnorm_mlp)
    assert_same(both(training.batchnorm), jobs.weights_of(plain))


def test_promise_04_an_overflow_on_one_worker_skips_the_step_on_both(both, float64):
    plain, _ = jobs.train_plainly(jobs.overflowing_source(), make_model=jobs.make_loss_scaling_mlp)
    assert_same(both(training.overflow), jobs.weights_of(plain))


@pytest.mark.parametrize("exchange", ["factors", "all_reduce"])
@pytest.mark.parametrize(("compression", "digits"), [("bfloat16", 2e-2), ("float16", 2e-3)])
def test_what_two_workers_round_on_the_way_stays_within_its_digits(both, float64, exchange, compression, digits):
    plain, _ = jobs.train_plainly(jobs.small_source(34))
    rounded = both(training.rounded, exchange, compression)
    np.testing.assert_array_equal(*rounded)
    # 8 or 11 bits of each gradient are kept; nothing else was rounded.
    assert 1e-7 < np.abs(rounded[0] - jobs.weights_of(plain)).max() < digits


def test_what_gpus_of_two_workers_exchange_without_a_gather_is_what_one_process_computes(both, float64):
    plain, _ = jobs.train_plainly(jobs.small_source(34))
    results = both(training.as_on_gpus)
    assert_same([weights for weights, _ in results], jobs.weights_of(plain))
    expected = plain.predict(jobs.make_rows()[0][:31], verbose=0)
    for _, outputs in results:
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-9)


def test_factors_of_uneven_batches_in_one_call_give_the_weights_of_one_process(both, float64):
    plain, _ = jobs.train_plainly(jobs.small_source(34))
    assert_same(both(training.factors_in_one_call), jobs.weights_of(plain))


@pytest.mark.parametrize("name", ["arrays", "tf.data"])
def test_lookups_of_uneven_batches_in_one_call_give_the_weights_of_one_process(both, float64, name):
    source = jobs.token_sources()["arrays"]
    plain, _ = jobs.train_plainly(source, make_model=jobs.make_embedding_mlp)
    assert_same(both(training.lookups, name), jobs.weights_of(plain))


def test_two_workers_measure_their_exchange_once_and_keep_what_they_found(both, folder, float64):
    plain, _ = jobs.train_plainly(jobs.wide_source(), make_model=jobs.make_wide_mlp)
    results = both(training.exchange, folder)
    for again in ("measured", "kept"):
        assert_same([result[again][0] for result in results], jobs.weights_of(plain))
    found = json.loads((folder / "measured" / "exchange.json").read_text())
    assert found["how"] == "measured" and found["about"]["weights"][0]["shape"] == [128, 256]
    assert all(0 < seconds < 10 for name, seconds in found["found"][0].items() if name.endswith("seconds"))
    measured, kept = (results[0][again][1] for again in ("measured", "kept"))
    assert "measured: 1 of 128 × 256: all-reduce" in measured[0]
    assert kept[0].endswith("exchange.json.")
    assert (folder / "kept" / "exchange.json").read_text() == (folder / "measured" / "exchange.json").read_text()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_two_workers_train_in_half_precision(both, policy):
    results = both(training.half_precision, policy)
    for _, losses in results:
        assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_array_equal(*(weights for weights, _ in results))


def test_the_loop_by_hand_equals_one_device_on_two_workers(both, float64):
    def make_model():
        return jobs.make_mlp(keras.optimizers.SGD(0.5, momentum=0.9, global_clipnorm=0.3))

    plain, _ = jobs.train_plainly(jobs.small_source(34), make_model=make_model)
    assert_same(both(training.by_hand), jobs.weights_of(plain))
    for planted in both(training.by_hand, jobs.mean_of_replica):
        assert np.abs(planted - jobs.weights_of(plain)).max() > 1e-3


def test_promise_31_all_workers_stop_on_the_same_step_with_the_same_rate(both, folder, float64, tmp_path):
    model, history = jobs.train_with_callbacks(None, jobs.keras_callbacks(tmp_path), fit=keras.Model.fit)
    assert 1 < len(history["val_loss"]) < 8
    for weights, losses in both(training.keras_callbacks, folder):
        np.testing.assert_allclose(weights, jobs.weights_of(model), rtol=0, atol=1e-9)
        np.testing.assert_allclose(losses, history["val_loss"], atol=1e-6)


def test_promise_31_what_a_callback_of_the_users_decides_on_the_chief_reaches_all(both):
    (*chief, chief_weights), (*other, other_weights) = both(training.chief_decides)
    np.testing.assert_allclose(chief, [3, 3, 0.01], atol=1e-6)
    np.testing.assert_allclose(other, [0, 3, 0.01], atol=1e-6)
    np.testing.assert_array_equal(chief_weights, other_weights)


def test_where_auto_measures_on_each_worker_all_take_the_calls_of_the_chief(both):
    weights, _ = both(training.fit, 20)[0]
    for calls, measured in both(training.measured_calls, "none"):
        # Six steps per epoch.
        assert calls == [1, 2, 6, 12]
        np.testing.assert_array_equal(measured, weights)


def test_a_callback_on_the_chief_alone_keeps_all_workers_at_one_step_per_call(both):
    results = both(training.measured_calls, "by batch")
    assert [calls for calls, _ in results] == [list(range(1, 13))] * 2
    np.testing.assert_array_equal(*(weights for _, weights in results))


def test_promise_28_callbacks_that_write_do_so_once(both, folder):
    _, losses = both(training.keras_callbacks, folder)[0]
    lines = (folder / "callbacks" / "log.csv").read_text().splitlines()
    assert len(lines) == 1 + len(losses)
    assert (folder / "callbacks" / "best.keras").is_file()
    assert len(list((folder / "callbacks" / "tensorboard").glob("train/events.*"))) == 1


def test_promise_28_a_tracker_and_the_files_of_the_run_are_written_once(both, folder):
    (weights, said), (other, _) = both(training.recorded, folder)
    plain, _ = both(training.fit, 20)[0]
    np.testing.assert_array_equal(weights, plain)
    np.testing.assert_array_equal(other, plain)
    assert (folder / "tracker-0").read_text() == "0 ['accuracy', 'loss']\n1 ['accuracy', 'loss']\n"
    assert not (folder / "tracker-1").exists()
    assert not any("runs only on the chief" in line for line in said)
    lines = [json.loads(line) for line in (folder / "recorded" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "epoch" not in line and "event" not in line] == [4, 8, 12]
    epochs = [line for line in lines if "epoch" in line and "event" not in line]
    assert [[each["worker"] for each in line["workers"]] for line in epochs] == [[0, 1], [0, 1]]
    events = [line for line in lines if "event" in line]
    assert [line["event"] for line in events] == ["start", "checkpoint", "checkpoint", "end"]
    assert (events[0]["workers"], events[0]["replicas"]) == (2, 2)
    assert len(list((folder / "recorded").glob("tensorboard/train/events.*"))) == 1
    summary = json.loads((folder / "recorded" / "summary.json").read_text())
    assert (summary["steps"], summary["finished"], summary["replicas"]) == (12, True, 2)


def test_promise_31_keras_backup_and_restore_goes_on_on_every_worker(both, folder, float64, tmp_path):
    plain, _ = jobs.train_with_callbacks(None, [], fit=keras.Model.fit)
    for weights, epochs in both(training.backup_and_restore, folder):
        np.testing.assert_allclose(weights, jobs.weights_of(plain), rtol=0, atol=1e-9)
        assert epochs == 5
    assert not (folder / "backup").exists()


@pytest.mark.parametrize("kind", ["tfds", "images", "records"])
def test_promise_24_the_workers_rows_are_the_data_set_each_once(both, folder, kind):
    (seen, losses), (others, _) = both(training.files, folder, kind)
    assert sorted(np.concatenate([seen, others])) == list(range(ROWS))
    assert abs(len(seen) - len(others)) <= 5
    assert losses[1] < losses[0]


FLAGS = ["--model=mlp", "--optimizer=sgd", "--learning_rate=0.1", "--steps=40", "--global_batch=50"]


def weights_of_run(folder):
    model = keras.saving.load_model(folder / "model.keras")
    digest = hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in model.weights))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["weights_sha256"] == digest.hexdigest()
    return jobs.weights_of(model), summary


@pytest.fixture(scope="module")
def one_device(tmp_path_factory, cpus):
    folder = tmp_path_factory.mktemp("one")
    assert train.main([*FLAGS, "--strategy=one_device", f"--run_dir={folder}"]) == 0
    return weights_of_run(folder)[0]


def test_the_command_on_two_workers_equals_one_device(tmp_path, one_device):
    # The chief chooses the folder, and logs it.
    folder = tmp_path / "runs" / "digits_cnn-1"
    ended = run_workers("-m", "tfdist.train", *FLAGS, "--strategy=multi_worker", folder=tmp_path)
    assert [worker.code for worker in ended] == [0, 0], ended[0].err[-3000:]
    weights, summary = weights_of_run(folder)
    np.testing.assert_allclose(weights, one_device, atol=1e-5)
    assert (summary["replicas"], summary["steps"]) == (2, 40)
    # 1,438 rows an epoch in 29 batches of 50, then 11 batches more.
    assert summary["examples_seen"] == 1438 + 11 * 50
    # Only the chief logs and writes.
    assert "test accuracy" in ended[0].out
    assert ended[1].out == ""
    assert len(list(folder.glob("**/model.keras"))) == 1
    assert len(list(folder.glob("**/events.out.tfevents.*"))) >= 1


@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_the_command_on_several_devices_equals_one(tmp_path, one_device, replicas):
    flags = [*FLAGS, "--strategy=mirrored", f"--replicas={replicas}", f"--run_dir={tmp_path}"]
    assert train.main(flags) == 0
    weights, summary = weights_of_run(tmp_path)
    np.testing.assert_allclose(weights, one_device, atol=1e-5)
    assert summary["replicas"] == replicas
