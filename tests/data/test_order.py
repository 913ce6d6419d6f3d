"""The order of the rows."""

import itertools

import numpy as np
import pytest

from tfdist.data import order

CASES = list(itertools.product([1, 2, 7, 64, 101], [1, 3, 10, 64, 200], [1, 2, 3, 8]))


@pytest.mark.parametrize(("rows", "global_batch", "replicas"), CASES)
def test_the_slices_of_a_batch_cover_it_and_differ_by_at_most_one_row(rows, global_batch, replicas):
    for step in range(order.steps_per_epoch(rows, global_batch)):
        start, stop = order.batch_bounds(rows, global_batch, step)
        bounds = [order.replica_bounds(stop - start, replicas, r) for r in range(replicas)]
        assert bounds[0][0] == 0
        assert bounds[-1][1] == stop - start
        assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
        sizes = [high - low for low, high in bounds]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("rows", "global_batch", "replicas"), CASES)
def test_an_epoch_visits_each_row_once_whatever_the_number_of_replicas(rows, global_batch, replicas):
    seen = [
        order.replica_rows(5, 2, step, rows=rows, global_batch=global_batch, replicas=replicas, replica=r)
        for step in range(order.steps_per_epoch(rows, global_batch))
        for r in range(replicas)
    ]
    np.testing.assert_array_equal(np.concatenate(seen), order.permutation(5, 2, rows))


@pytest.mark.parametrize("rows", [1, 2, 100, 1438])
def test_a_permutation_has_each_row_once(rows):
    np.testing.assert_array_equal(np.sort(order.permutation(3, 1, rows)), np.arange(rows))


def test_equal_seed_and_epoch_give_an_equal_order_and_others_another():
    orders = {tuple(order.permutation(seed, epoch, 50)) for seed, epoch in itertools.product(range(4), range(4))}
    assert len(orders) == 16
    np.testing.assert_array_equal(order.permutation(1, 2, 50), order.permutation(1, 2, 50))


def test_the_order_never_changes_between_versions():
    assert order.permutation(0, 0, 12).tolist() == [0, 2, 11, 9, 1, 8, 5, 4, 3, 10, 6, 7]
    assert order.permutation(7, 3, 12).tolist() == [2, 5, 9, 7, 3, 0, 6, 8, 4, 1, 11, 10]


def test_without_shuffling_rows_come_as_they_are_stored():
    assert order.permutation(9, 9, 4, shuffle=False).tolist() == [0, 1, 2, 3]


def test_a_remainder_is_a_step_of_its_own_unless_it_is_dropped():
    assert order.steps_per_epoch(10, 4) == 3
    assert order.steps_per_epoch(10, 4, drop_remainder=True) == 2
    assert order.steps_per_epoch(8, 4) == order.steps_per_epoch(8, 4, drop_remainder=True) == 2
    assert order.batch_bounds(10, 4, 2) == (8, 10)


def test_with_fewer_rows_than_replicas_some_replicas_have_none():
    bounds = [order.replica_bounds(2, 3, r) for r in range(3)]
    assert bounds == [(0, 0), (0, 1), (1, 2)]
