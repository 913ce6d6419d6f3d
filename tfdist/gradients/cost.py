"""What an exchange costs: plain arithmetic over bytes and multiplications, alike on every worker."""

from typing import NamedTuple


class Costs(NamedTuple):
    """What a cluster can do, per worker.

    Attributes:
        reduce: bytes a second that an all-reduce sends.
        gather: bytes a second that an all-gather receives.
        latency: seconds that a collective takes however little it carries.
        multiply: floating point operations a second of a product of matrices.
    """

    reduce: float
    gather: float
    latency: float
    multiply: float


# Where nothing was measured: two processes with one core each on loopback.
USUAL = Costs(reduce=0.5e9, gather=0.5e9, latency=1e-3, multiply=5e10)


def reduce_seconds(size, replicas, costs):
    """Estimates an all-reduce of so many bytes: each worker sends them 2 (N-1) / N times, in a ring."""
    return 2 * (replicas - 1) / replicas * size / costs.reduce


def factor_seconds(uses, rows, replicas, costs):
    """Estimates the exchange of one weight's gradient by its factors.

    Args:
        uses: list of `factors.Use`: the products with the weight.
        rows: rows of the batch on a replica.
        replicas: number of replicas.
        costs: `Costs`.
    """
    seconds = 0.0
    for use in uses:
        theirs = (replicas - 1) * rows * use.rows_per_row
        received = theirs * (use.inputs + use.outputs) * use.itemsize
        # Two collectives: how many rows, then the rows.
        seconds += 2 * costs.latency + received / costs.gather
        # What the others' rows add to the product of one's own.
        seconds += 2 * theirs * use.inputs * use.outputs / costs.multiply
    return seconds


def cheaper_by_factors(uses, size, rows, replicas, costs):
    """Says whether the factors are cheaper than an all-reduce of `size` bytes; never where a number is unknown."""
    if replicas == 1 or not rows or any(use.rows_per_row is None for use in uses):
        return False
    return factor_seconds(uses, rows, replicas, costs) < reduce_seconds(size, replicas, costs)
