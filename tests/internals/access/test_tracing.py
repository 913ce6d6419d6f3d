"""AutoGraph: it converts what users write for their data, and nothing of tfdist's own."""

import numpy as np
import pytest
import tensorflow as tf
from support import jobs
from tensorflow.python.autograph.impl import api

import tfdist
from tfdist.data import augment

pytestmark = [pytest.mark.core, pytest.mark.slow, pytest.mark.oldest]


@pytest.fixture
def converted(monkeypatch):
    """Lists the functions that AutoGraph converts during a test, as "module.name"."""
    names, convert = [], api._convert_actual

    def note(entity, context):
        names.append(f"{entity.__module__}.{entity.__qualname__}")
        return convert(entity, context)

    monkeypatch.setattr(api, "_convert_actual", note)
    return names


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("whole_calls", [False, True], ids=["by TensorFlow", "by XLA"])
def test_fit_evaluate_and_predict_convert_nothing(replicas, whole_calls, make_strategy, converted, tmp_path):
    arrays, batches = jobs.small_source(20), jobs.tf_data(0)
    model, _ = jobs.train(make_strategy(replicas), arrays, jit_compile=whole_calls, run_dir=tmp_path, epochs=1)
    for data in (arrays, batches):
        tfdist.fit(model, data, verbose=0)
        tfdist.evaluate(model, data, verbose=0)
        tfdist.predict(model, data, verbose=0)
    assert converted == []


def test_a_loop_of_the_users_own_converts_only_that(make_strategy, converted):
    jobs.train_by_hand(make_strategy(2), jobs.small_source(20), epochs=1)
    assert {name for name in converted if not name.startswith("tensorflow.")} == {
        "support.jobs.train_by_hand.<locals>.train_step"
    }


def test_a_transformation_of_the_users_own_may_branch_on_tensors(converted):
    def brighten(images, seeds):
        if tf.reduce_mean(images) > 0.5:
            return images
        return images + 1.0

    source = tfdist.data.from_arrays(np.zeros((6, 4, 4, 3), "float32"), np.zeros(6), global_batch=3)
    source = source.map(augment.on_images(augment.flip(), brighten))
    source = source.map(lambda batch, seeds: (batch[0] * 2.0 if tf.size(seeds) > 0 else batch[0], batch[1]))
    for images, _ in source.dataset():
        np.testing.assert_array_equal(images, np.full((3, 4, 4, 3), 2.0))
    assert converted
    assert not [name for name in converted if name.startswith("tfdist.")]
