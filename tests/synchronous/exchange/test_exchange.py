"""The type in which gradients cross, and what is refused before anything runs."""

import pytest
import tensorflow as tf
from support import jobs

from tfdist.options.step import StepOptions
from tfdist.synchronous.exchange.exchange import wire_type

pytestmark = pytest.mark.core


def test_only_several_replicas_round(make_strategy):
    options = StepOptions(compression="bfloat16")
    assert wire_type(options, make_strategy(1)) is None
    assert wire_type(options, make_strategy(2)) == tf.bfloat16
    assert wire_type(StepOptions(), make_strategy(2)) is None


def test_bfloat16_is_refused_by_name_where_nccl_sums_and_float16_is_not(cpus):
    strategy = tf.distribute.MirroredStrategy(cpus[:2], cross_device_ops=tf.distribute.NcclAllReduce())
    assert wire_type(StepOptions(compression="float16"), strategy) == tf.float16
    with pytest.raises(ValueError, match=r"compression is 'bfloat16', which NCCL's .* Use compression='float16'"):
        jobs.train(strategy, jobs.small_source(20), compression="bfloat16")
