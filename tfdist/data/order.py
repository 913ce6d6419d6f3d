"""The order of the rows: a function of (seed, epoch), never of the number of replicas.

An epoch is one permutation of the rows. It is cut into global batches, and each of them into one slice per replica.
So 1, 2 and 4 replicas see the same global batches, and a run can go on at any step without reading earlier rows.
"""

import numpy as np
import numpy.typing as npt


def permutation(seed: int, epoch: int, rows: int, *, shuffle: bool = True) -> npt.NDArray[np.int64]:
    """Returns the order in which an epoch visits the rows.

    The order is the argsort of the Philox stream keyed by (seed, epoch), because an order must survive an upgrade:
    NumPy guarantees that stream, while `Generator.permutation` may change between versions.

    Args:
        seed: whole number ≥ 0, the run's seed.
        epoch: whole number ≥ 0.
        rows: number of rows of the data set.
        shuffle: False for the order in which the rows are stored.

    Returns:
        int64 array of shape (rows,), each of 0..rows-1 once.
    """
    if not shuffle:
        return np.arange(rows, dtype=np.int64)
    keys = np.random.Philox(key=[int(seed), int(epoch)]).random_raw(rows)
    return np.argsort(keys, kind="stable").astype(np.int64)


def steps_per_epoch(rows: int, global_batch: int, *, drop_remainder: bool = False) -> int:
    """Counts the global batches of an epoch; the last one may be smaller unless it is dropped."""
    return rows // global_batch if drop_remainder else -(-rows // global_batch)


def batch_bounds(rows: int, global_batch: int, step: int) -> tuple[int, int]:
    """Returns (start, stop) of a step's global batch within the epoch's order."""
    start = step * global_batch
    return start, min(start + global_batch, rows)


def replica_bounds(batch_rows: int, replicas: int, replica: int) -> tuple[int, int]:
    """Returns (start, stop) of a replica's slice of a global batch.

    Slices are contiguous, and their lengths differ by at most one row; with fewer rows than replicas some are empty.
    The expression is plain arithmetic, so it works on Python numbers and on TensorFlow's tensors.
    """
    return batch_rows * replica // replicas, batch_rows * (replica + 1) // replicas


def replica_rows(
    seed: int,
    epoch: int,
    step: int,
    *,
    rows: int,
    global_batch: int,
    replicas: int,
    replica: int,
    shuffle: bool = True,
) -> npt.NDArray[np.int64]:
    """Returns the rows that one replica trains on in one step: int64 array, possibly of length 0."""
    start, stop = batch_bounds(rows, global_batch, step)
    low, high = replica_bounds(stop - start, replicas, replica)
    return permutation(seed, epoch, rows, shuffle=shuffle)[start + low : start + high]
