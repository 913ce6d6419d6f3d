"""Transforms in turn, and those that need the row before: the same on any number of replicas."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
from support.splitmix import SEEDS

from tfdist import data
from tfdist.data import augment
from tfdist.data.delivery.delivery import Places, one_by_one
from tfdist.data.transforms import Chain, rows_before
from tfdist.ops.refusals import as_usage_errors

ROWS, BATCH = 61, 25
STEPS = 3  # of an epoch: 25, 25 and 11 rows


def shares(source, replicas, *, steps=STEPS + 1, **start):
    """Reads all replicas' shares of some steps; returns for each step its parts with the rows that count."""
    workers = [
        one_by_one(source.local_batches(Places(replicas, r, 1), **{"epoch": 0, "step": 0, **start})).take(steps)
        for r in range(replicas)
    ]
    for step in zip(*(worker.as_numpy_iterator() for worker in workers), strict=True):
        parts = [[part[: share.replica_rows] for part in share.batch] for share in step]
        yield [np.concatenate(part) for part in zip(*parts, strict=True)]


def photographs(rows=ROWS, global_batch=BATCH):
    noise = np.random.default_rng(0).random((rows, 12, 10, 3), np.float32)
    return data.from_arrays(noise, np.arange(rows) % 7, global_batch=global_batch, seed=3)


def everything(source):
    crops = [augment.resized_crop((8, 8)), augment.pad_crop(1), augment.flip()]
    colours = [augment.colour_jitter(0.4, 0.4, 0.4), augment.normalise(0.5, 0.25), augment.random_erasing()]
    source = source.map(augment.on_images(*crops, *colours)).map(augment.one_hot(7, smoothing=0.1))
    return source.map(augment.mixup(0.4)).map(augment.cutmix(probability=0.5))


def mixed(source):
    """A part of everything, which is traced in a third of the time."""
    source = source.map(augment.on_images(augment.resized_crop((8, 8)))).map(augment.one_hot(7))
    return source.map(augment.mixup(0.4))


def assert_equal(steps, others):
    for ours, theirs in zip(steps, others, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_all_augmentations_are_bit_for_bit_equal_on_three_replicas():
    source = everything(photographs())
    assert rows_before(source.transform) == 2
    assert_equal(shares(source, 3), shares(source, 1))


def test_mixing_is_equal_on_two_replicas_and_with_shares_of_one_size():
    source = mixed(photographs())
    alone = list(shares(source, 1))
    assert [len(x) for x, _ in alone] == [25, 25, 11, 25]
    assert_equal(shares(source, 2), alone)
    assert_equal(shares(dataclasses.replace(source, static_shapes=True), 2), alone)


def test_a_run_that_begins_in_the_middle_sees_the_same_rows():
    source = mixed(photographs())
    whole = list(shares(source, 1, steps=2 * STEPS))
    assert_equal(shares(source, 1, steps=2, epoch=1, step=1), whole[STEPS + 1 :])
    assert not np.array_equal(whole[0][0], whole[STEPS][0])


@pytest.mark.parametrize("replicas", [1, 2, 3, 4])
def test_the_row_before_is_that_of_the_global_batch_after_the_transforms_before(replicas):
    seen = augment.WithPrevious(lambda batch, previous, seeds: (batch[0], previous[0], previous[1], seeds))
    numbers = data.from_arrays(np.arange(7), np.arange(7) * 2, global_batch=3, shuffle=False)
    source = numbers.map(lambda batch, seeds: (batch[0] * 10, seeds[:, 1])).map(seen)
    # Steps of 3, 3 and 1 rows: with more replicas than rows, some have none.
    expected = [([0, 10, 20], [20, 0, 10]), ([30, 40, 50], [50, 30, 40]), ([60], [60])]
    for (own, before, places, seeds), (rows, others) in zip(shares(source, replicas, steps=3), expected, strict=True):
        assert own.tolist() == rows
        assert before.tolist() == others
        assert (places * 10).tolist() == others, "a row before has the seed that it has as a row of its own"
        assert (seeds[:, 1] * 10).tolist() == rows


def test_two_rows_before_are_read_for_two_transforms():
    def add(batch, previous, seeds):
        return (batch[0] + 10 * previous[0], batch[1])

    numbers = data.from_arrays(np.arange(5), np.arange(5), global_batch=5, shuffle=False)
    (alone,) = shares(numbers.map(augment.WithPrevious(add)).map(augment.WithPrevious(add)), 1, steps=1)
    first = np.arange(5) + 10 * np.roll(np.arange(5), 1)
    np.testing.assert_array_equal(alone[0], first + 10 * np.roll(first, 1))


def test_a_source_of_one_row_has_itself_before_it():
    one = data.from_arrays(np.array([4.0]), np.array([1]), global_batch=1)
    source = one.map(augment.WithPrevious(lambda batch, previous, seeds: (batch[0] - previous[0], batch[1])))
    assert [part.tolist() for part in next(shares(source, 1, steps=1))] == [[0.0], [1]]


@pytest.mark.parametrize("kind", ["arrays", "images", "records", "tfds as a stream"])
def test_each_kind_of_source_reads_the_row_before(kind, make):
    def difference(batch, previous, seeds):
        del seeds
        return tf.nest.map_structure(lambda one, other: (one, other), batch, previous)

    source = make(kind)
    own = tf.nest.flatten(next(iter(source.dataset())))
    pairs = next(iter(source.map(augment.WithPrevious(difference)).dataset()))
    for part, pair in zip(own, zip(*[iter(tf.nest.flatten(pairs))] * 2, strict=True), strict=True):
        np.testing.assert_array_equal(pair[0], part)
        np.testing.assert_array_equal(pair[1], np.roll(part, 1, axis=0))


def test_functions_of_the_users_own_go_through_autograph():
    def double_if_positive(batch, seeds):
        if tf.reduce_sum(batch) > 0:
            batch = batch * 2
        return batch

    chain = Chain((double_if_positive, Chain((double_if_positive,))))
    traced = tf.data.Dataset.from_tensors((tf.ones(5), tf.constant(SEEDS))).map(chain)
    assert next(iter(traced)).numpy().tolist() == [4.0] * 5


@pytest.mark.parametrize(
    "transform",
    [
        lambda batch, seeds: (batch[0][:2], batch[1][:2]),
        lambda batch, seeds: (batch[0][1:], batch[1]),
        lambda batch, seeds: tf.nest.map_structure(lambda part: tf.concat([part, part], 0), batch),
        augment.on_images(lambda images, seeds: images[::2]),
    ],
    ids=["fewer", "fewer images", "twice as many", "every other image"],
)
def test_a_transform_that_changes_the_number_of_rows_ends_the_run(transform):
    with (
        pytest.raises(ValueError, match=r"transform .*: it returned \d+ rows for 25\. Return one for each row"),
        as_usage_errors(),
    ):
        next(iter(photographs().map(transform).dataset()))


@pytest.mark.parametrize(
    "transform",
    [
        lambda batch, seeds: None,
        lambda batch, seeds: list(batch),
        lambda batch, seeds: (batch[0], tf.reduce_sum(batch[1])),
    ],
    ids=["nothing", "a list", "a number"],
)
def test_a_transform_that_returns_no_batch_is_refused(transform):
    with pytest.raises(ValueError, match=r"it returned .* Return tensors \(B, \.\.\.\): x, \(x, y\) or"):
        photographs().map(transform).dataset()


def test_what_is_no_transform_is_refused_at_once():
    with pytest.raises(ValueError, match=r"arrays: transform is 3\. Use a function \(batch, row_seeds\) → batch"):
        photographs().map(3)


def test_rows_in_memory_go_through_fixed_transforms_once_with_the_very_result_of_the_pipeline():
    calls = []

    @augment.fixed
    def noted(batch, seeds):
        calls.append(batch)
        return batch

    prepared = augment.on_images(augment.normalise((0.4, 0.5, 0.6), 0.3)), augment.one_hot(7, smoothing=0.1), noted
    source = functools.reduce(data.Source.map, prepared, photographs())
    images, labels = source.rows_in_memory()
    assert source.rows_in_memory()[0] is images
    assert len(calls) == 1
    for batch, order in zip(source.dataset(epoch=1), np.split(source.plan.order(1), [25, 50]), strict=True):
        np.testing.assert_array_equal(batch[0], images.numpy()[order])
        np.testing.assert_array_equal(batch[1], labels.numpy()[order])


def test_what_draws_or_grows_too_large_stays_in_the_pipeline(monkeypatch):
    fixed, draws = (
        augment.on_images(augment.normalise(0, 1)),
        augment.on_images(augment.normalise(0, 1), augment.flip()),
    )
    assert photographs().map(draws).rows_in_memory() is None
    assert photographs().map(fixed).map(draws).rows_in_memory() is None
    with pytest.raises(ValueError, match=r"one_hot: there are labels from 0 to 6\. Use labels in 0\.\.2"):
        photographs().map(augment.one_hot(3)).rows_in_memory()
    size = ROWS * (12 * 10 * 3 * 4 + 8)
    monkeypatch.setattr("tfdist.data.transforms._MOST_BYTES_KEPT", size)
    assert photographs().map(fixed).rows_in_memory() is not None
    monkeypatch.setattr("tfdist.data.transforms._MOST_BYTES_KEPT", size - 1)
    assert photographs().map(fixed).rows_in_memory() is None
