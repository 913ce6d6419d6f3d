"""Estimates the cost of an exchange from bytes and multiplications, with the same result on every worker."""

from typing import NamedTuple


class Costs(NamedTuple):
    """The speeds of a cluster, per worker.

    Attributes:
        reduce: bytes a second that an all-reduce receives.
        gather: bytes a second that an all-gather receives.
        latency: seconds that a collective takes, however small it is.
        multiply: floating point operations a second of a product of matrices.
    """

    reduce: float
    gather: float
    latency: float
    multiply: float


# For use where nothing was measured: two processes with one core each on loopback.
USUAL = Costs(reduce=0.5e9, gather=0.5e9, latency=1e-3, multiply=5e10)


def reduce_bytes(size, replicas):
    """Returns the bytes that a worker receives when `size` bytes are all-reduced in a ring."""
    return 2 * (replicas - 1) / replicas * size


def reduce_seconds(size, replicas, costs):
    """Estimates the seconds of an all-reduce of `size` bytes."""
    return reduce_bytes(size, replicas) / costs.reduce


def factor_bytes(uses, replicas):
    """Returns the bytes that a worker receives when one weight's factors are gathered from all others."""
    return (replicas - 1) * sum(use.rows * (use.inputs + use.outputs) * use.itemsize for use in uses)


def factor_seconds(uses, replicas, costs):
    """Estimates the seconds in which one weight's gradient is exchanged by its factors.

    Args:
        uses: list of `factors.Use`: the products with the weight on one replica, their rows known.
        replicas: number of replicas.
        costs: `Costs`.
    """
    # The operations that the rows of the other replicas add.
    operations = (replicas - 1) * sum(2 * use.rows * use.inputs * use.outputs for use in uses)
    # Two collectives a product: how many rows, then the rows.
    latency = 2 * costs.latency * len(uses)
    return latency + factor_bytes(uses, replicas) / costs.gather + operations / costs.multiply
