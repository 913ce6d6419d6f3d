"""Properties of every kind of source, such as the same global batches for any number of replicas."""

import numpy as np
import pytest
import tensorflow as tf

from tfdist.data import augment
from tfdist.data.delivery.delivery import Places, one_by_one

pytestmark = pytest.mark.slow

KINDS = ["arrays", "synthetic", "idx", "images", "records", "records by number", "tfds in memory", "tfds as a stream"]
STEPS = 5  # of an epoch: 23 rows in batches of 5


def replica_shares(source, steps, *, replicas, first, count=1, epoch=0, step=0):
    """Returns the shares of a worker's replicas for a number of steps."""
    batches = source.local_batches(Places(replicas, first, count), epoch=epoch, step=step)
    return list(one_by_one(batches).take(steps * count).as_numpy_iterator())


def rows_that_count(share):
    return [part[: share.replica_rows] for part in tf.nest.flatten(share.batch)]


def join(shares):
    """Joins the rows of one step's replicas, in their order."""
    parts = zip(*map(rows_that_count, shares), strict=True)
    return [np.concatenate(part) for part in parts]


def global_batches(source, steps, *, replicas=1, **start):
    """Reads as every one of `replicas` workers (one replica each), and joins their rows."""
    workers = [replica_shares(source, steps, replicas=replicas, first=r, **start) for r in range(replicas)]
    return [join(shares) for shares in zip(*workers, strict=True)]


def assert_equal(ours, theirs):
    tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_replicas_sees_the_same_global_batches(kind, make):
    source = make(kind)
    alone = global_batches(source, STEPS + 2)
    for replicas in (2, 3):
        assert_equal(global_batches(source, STEPS + 2, replicas=replicas), alone)


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_is_the_data_set_with_each_row_once(kind, make):
    batches = global_batches(make(kind), STEPS)
    assert [len(batch[0]) for batch in batches] == [5, 5, 5, 5, 3]
    rows = np.concatenate([batch[0] for batch in batches])
    assert len(np.unique(rows, axis=0)) == 23
    stored = [batch[0] for batch in global_batches(make(kind, shuffle=False), STEPS)]
    flat = [np.sort(part.reshape(23, -1), axis=0) for part in (rows, np.concatenate(stored))]
    np.testing.assert_array_equal(*flat)


@pytest.mark.parametrize("kind", KINDS)
def test_starting_at_an_epoch_and_step_equals_skipping_what_is_before(kind, make):
    source = make(kind)
    whole = global_batches(source, 2 * STEPS + 1)
    assert_equal(global_batches(source, 4, epoch=1, step=2), whole[STEPS + 2 :])
    first, second = (np.concatenate([batch[0] for batch in whole[at : at + STEPS]]) for at in (0, STEPS))
    assert not np.array_equal(first, second), "every epoch has an order of its own"


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_rows_is_decoded(kind, make):
    source = make(kind)
    items = source.reader.global_batches(tf.constant(0, tf.int64), 0, source.plan)
    empty = next(iter(items.map(lambda batch: source.reader.decode(batch[:0]))))
    for part, spec in zip(tf.nest.flatten(empty), tf.nest.flatten(source.element_spec), strict=True):
        assert part.shape == (0, *spec.shape[1:])


def test_a_worker_with_two_replicas_gets_the_rows_of_two_workers_with_one(make):
    source = make("records")
    together = replica_shares(source, 3, replicas=3, first=1, count=2)
    apart = [replica_shares(source, 3, replicas=3, first=r) for r in (1, 2)]
    in_turn = [share for step in zip(*apart, strict=True) for share in step]
    assert_equal([rows_that_count(s) for s in together], [rows_that_count(s) for s in in_turn])


def test_with_fewer_rows_than_replicas_each_row_still_comes_once(make):
    source = make("arrays", global_batch=2)
    assert_equal(global_batches(source, 12, replicas=4), global_batches(source, 12))


def test_a_dropped_remainder_leaves_full_batches_alone(make):
    for kind in ("arrays", "records"):
        source = make(kind, drop_remainder=True)
        assert source.cardinality == 4
        sizes = [len(batch[0]) for batch in global_batches(source, 6)]
        assert sizes == [5] * 6


def test_augmentation_is_the_same_for_any_number_of_replicas(make):
    transform = augment.on_images(augment.flip(), augment.pad_crop(2), augment.resized_crop((4, 4)))
    noise = np.random.default_rng(0).random((23, 6, 8, 3), np.float32)
    from tfdist import data

    source = data.from_arrays(noise, np.arange(23), global_batch=5).map(transform)
    alone = global_batches(source, STEPS + 1)
    for replicas in (2, 3):
        assert_equal(global_batches(source, STEPS + 1, replicas=replicas), alone)


def test_names_of_classes_say_how_many_there_are():
    from tfdist import data

    labels = np.arange(6) % 3
    source = data.from_arrays(labels, labels, class_names=["ant", "bee", "cat"])
    assert (source.classes, source.class_names) == (3, ("ant", "bee", "cat"))
    assert data.from_arrays(labels, labels, classes=3).class_names is None
    with pytest.raises(ValueError, match=r"arrays: classes is 4, but there are 2 class_names\. Leave out classes"):
        data.from_arrays(labels, labels, classes=4, class_names=("ant", "bee"))
