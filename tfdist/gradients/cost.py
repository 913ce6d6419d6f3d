"""What an exchange costs: plain arithmetic over bytes and multiplications, alike on every worker."""

from typing import NamedTuple


class Costs(NamedTuple):
    """What a cluster can do, per worker.

    Attributes:
        reduce: bytes a second that an all-reduce receives.
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


def reduce_bytes(size, replicas):
    """Gives the bytes that a worker receives when so many are all-reduced in a ring."""
    return 2 * (replicas - 1) / replicas * size


def reduce_seconds(size, replicas, costs):
    """Estimates an all-reduce of so many bytes."""
    return reduce_bytes(size, replicas) / costs.reduce


def factor_bytes(uses, replicas):
    """Gives the bytes that a worker receives when one weight's factors are gathered from all others."""
    return (replicas - 1) * sum(use.rows * (use.inputs + use.outputs) * use.itemsize for use in uses)


def factor_seconds(uses, replicas, costs):
    """Estimates the exchange of one weight's gradient by its factors.

    Args:
        uses: list of `factors.Use`: the products with the weight on one replica, their rows known.
        replicas: number of replicas.
        costs: `Costs`.
    """
    # What the others' rows add to the product of one's own.
    operations = (replicas - 1) * sum(2 * use.rows * use.inputs * use.outputs for use in uses)
    # Two collectives a product: how many rows, then the rows.
    latency = 2 * costs.latency * len(uses)
    return latency + factor_bytes(uses, replicas) / costs.gather + operations / costs.multiply
