"""Checks two real workers on loopback against plain Keras in one process."""

import hashlib
import json

import keras
import numpy as np
import pytest
from support import jobs
from support.processes import REPOSITORY, run_workers
from support.small_files import ROWS, write_example_images, write_images, write_tfds

from tfdist.train import command as train

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the two workers read and write."""
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def workers(folder):
    """The results of worker.py on two workers."""
    write_tfds(folder / "tfds")
    write_images(folder / "images")
    write_example_images(folder / "records")
    ended = run_workers(REPOSITORY / "tests" / "support" / "multi_worker.py", folder, deadline_seconds=240)
    assert [worker.code for worker in ended] == [0, 0], ended[0].err[-3000:]
    return [dict(np.load(folder / f"worker-{rank}.npz")) for rank in range(2)]


def assert_same(workers, name, expected):
    for worker in workers:
        np.testing.assert_allclose(worker[name], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("global_batch", [20, 34])
def test_promise_01_two_workers_end_with_the_weights_of_one_process(workers, float64, global_batch):
    plain, history = jobs.train_plainly(jobs.small_source(global_batch))
    assert_same(workers, f"fit {global_batch}", jobs.weights_of(plain))
    for worker in workers:
        np.testing.assert_allclose(worker[f"loss {global_batch}"], history["loss"], atol=1e-6)


def test_promise_01_two_workers_evaluate_and_predict_what_one_process_does(workers, float64):
    plain, _ = jobs.train_plainly(jobs.small_source(34))
    x, y = jobs.make_rows()
    for worker in workers:
        np.testing.assert_allclose(worker["evaluate"], plain.evaluate(x[:31], y[:31], verbose=0), atol=1e-6)
    assert_same(workers, "predict", plain.predict(x[:31], verbose=0))


def test_a_worker_may_predict_its_own_rows_alone_and_all_workers_together_every_row_once(workers):
    places = np.concatenate([worker["own places"] for worker in workers])
    assert sorted(places) == list(range(31))
    assert [len(worker["own places"]) for worker in workers] == [15, 16]
    for worker in workers:
        np.testing.assert_array_equal(worker["own outputs"], worker["predict"][worker["own places"]])


def test_promise_24_data_in_another_order_on_each_worker_is_warned_of(workers):
    for worker in workers:
        assert (int(worker["said of the same data"]), int(worker["said of other data"])) == (0, 1)


def test_promise_25_workers_with_10_and_4_rows_of_their_own_train_on_all_14(workers, float64):
    plain = jobs.make_mlp()
    for _ in range(2):
        for x, y in jobs.rows_of_uneven_shards():
            plain.train_on_batch(x, y)
    assert_same(workers, "uneven shards", jobs.weights_of(plain))


def test_two_workers_share_batchnorm_statistics(workers, float64):
    plain, _ = jobs.train_plainly(jobs.small_source(34), make_model=jobs.make_batchnorm_mlp)
    assert_same(workers, "batchnorm", jobs.weights_of(plain))


def test_promise_04_an_overflow_on_one_worker_skips_the_step_on_both(workers, float64):
    plain, _ = jobs.train_plainly(jobs.overflowing_source(), make_model=jobs.make_loss_scaling_mlp)
    assert_same(workers, "overflow", jobs.weights_of(plain))


@pytest.mark.parametrize("exchange", ["factors", "all_reduce"])
@pytest.mark.parametrize(("compression", "digits"), [("bfloat16", 2e-2), ("float16", 2e-3)])
def test_what_two_workers_round_on_the_way_stays_within_its_digits(workers, float64, exchange, compression, digits):
    plain, _ = jobs.train_plainly(jobs.small_source(34))
    rounded = [worker[f"{compression} {exchange}"] for worker in workers]
    np.testing.assert_array_equal(*rounded)
    # 8 or 11 bits of each gradient are kept; nothing else was rounded.
    assert 1e-7 < np.abs(rounded[0] - jobs.weights_of(plain)).max() < digits


def test_factors_of_uneven_batches_in_one_call_give_the_weights_of_one_process(workers, float64):
    plain, _ = jobs.train_plainly(jobs.small_source(34))
    assert_same(workers, "factors of uneven batches in one call", jobs.weights_of(plain))


@pytest.mark.parametrize("name", ["arrays", "tf.data"])
def test_lookups_of_uneven_batches_in_one_call_give_the_weights_of_one_process(workers, float64, name):
    source = jobs.token_sources()["arrays"]
    plain, _ = jobs.train_plainly(source, make_model=jobs.make_embedding_mlp)
    assert_same(workers, f"lookups of {name}", jobs.weights_of(plain))


def test_two_workers_measure_their_exchange_once_and_keep_what_they_found(workers, folder, float64):
    plain, _ = jobs.train_plainly(jobs.wide_source(), make_model=jobs.make_wide_mlp)
    for again in ("measured", "kept"):
        assert_same(workers, f"exchange {again}", jobs.weights_of(plain))
    found = json.loads((folder / "measured" / "exchange.json").read_text())
    assert found["how"] == "measured" and found["about"]["weights"][0]["shape"] == [128, 256]
    assert all(0 < seconds < 10 for name, seconds in found["found"][0].items() if name.endswith("seconds"))
    measured, kept = (workers[0][f"exchange {again}, said"] for again in ("measured", "kept"))
    assert "measured: 1 of 128 × 256: all-reduce" in measured[0]
    assert kept[0].endswith("exchange.json.")
    assert (folder / "kept" / "exchange.json").read_text() == (folder / "measured" / "exchange.json").read_text()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_two_workers_train_in_half_precision(workers, policy):
    for worker in workers:
        losses = worker[f"loss in {policy}"]
        assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_array_equal(workers[0][policy], workers[1][policy])


def test_the_loop_by_hand_equals_one_device_on_two_workers(workers, float64):
    def make_model():
        return jobs.make_mlp(keras.optimizers.SGD(0.5, momentum=0.9, global_clipnorm=0.3))

    plain, _ = jobs.train_plainly(jobs.small_source(34), make_model=make_model)
    assert_same(workers, "by hand", jobs.weights_of(plain))
    for worker in workers:
        assert np.abs(worker["planted"] - jobs.weights_of(plain)).max() > 1e-3


def test_promise_31_all_workers_stop_on_the_same_step_with_the_same_rate(workers, float64, tmp_path):
    model, history = jobs.train_with_callbacks(None, jobs.keras_callbacks(tmp_path), fit=keras.Model.fit)
    assert 1 < len(history["val_loss"]) < 8
    assert_same(workers, "with callbacks", jobs.weights_of(model))
    for worker in workers:
        np.testing.assert_allclose(worker["val_loss with callbacks"], history["val_loss"], atol=1e-6)


def test_promise_31_what_a_callback_of_the_users_decides_on_the_chief_reaches_all(workers):
    chief, other = (worker["chief decides"] for worker in workers)
    np.testing.assert_allclose(chief, [3, 3, 0.01], atol=1e-6)
    np.testing.assert_allclose(other, [0, 3, 0.01], atol=1e-6)
    np.testing.assert_array_equal(*(worker["weights as the chief decided"] for worker in workers))


def test_where_auto_measures_on_each_worker_all_take_the_calls_of_the_chief(workers):
    for worker in workers:
        # Six steps per epoch. A callback on the chief alone keeps all workers at one step per call.
        assert worker["calls: auto"].tolist() == [1, 2, 6, 12]
        assert worker["calls: auto by batch"].tolist() == list(range(1, 13))
        np.testing.assert_array_equal(worker["weights: auto"], workers[0]["fit 20"])
    np.testing.assert_array_equal(*(worker["weights: auto by batch"] for worker in workers))


def test_promise_28_callbacks_that_write_do_so_once(workers, folder):
    lines = (folder / "callbacks" / "log.csv").read_text().splitlines()
    assert len(lines) == 1 + len(workers[0]["val_loss with callbacks"])
    assert (folder / "callbacks" / "best.keras").is_file()
    assert len(list((folder / "callbacks" / "tensorboard").glob("train/events.*"))) == 1
    assert not (folder / "backup").exists()


def test_promise_31_keras_backup_and_restore_goes_on_on_every_worker(workers, float64, tmp_path):
    plain, _ = jobs.train_with_callbacks(None, [], fit=keras.Model.fit)
    assert_same(workers, "backup and restore", jobs.weights_of(plain))
    assert [int(worker["epochs after restoring"]) for worker in workers] == [5, 5]


@pytest.mark.parametrize("kind", ["tfds", "images", "records"])
def test_promise_24_the_workers_rows_are_the_data_set_each_once(workers, kind):
    both = [worker[f"rows of {kind}"] for worker in workers]
    assert sorted(np.concatenate(both)) == list(range(ROWS))
    assert abs(len(both[0]) - len(both[1])) <= 5
    assert workers[0][f"loss on {kind}"][1] < workers[0][f"loss on {kind}"][0]


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
