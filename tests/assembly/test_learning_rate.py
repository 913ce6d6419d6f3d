"""The learning rate of a run at each of its steps, against the formula in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import schedules

from tfdist.assembly.learning_rate import make_learning_rate
from tfdist.options.run import RunConfig
from tfdist.options.schedule import ScheduleOptions

pytestmark = pytest.mark.core

# 10 steps an epoch.
SIZES = {"rows": 317, "steps_per_epoch": 10}
STEPS = np.arange(70)


def derive(*, warmup_epochs=0, epochs=6, **schedule):
    options = ScheduleOptions(warmup_epochs=warmup_epochs, **schedule)
    config = RunConfig(optimizer="sgd", learning_rate=0.1, base_batch=16, epochs=epochs, schedule=options)
    return make_learning_rate(config, **SIZES)


def rates(schedule):
    return np.array([float(schedule(tf.constant(step, "int64"))) for step in STEPS])


def cosine(warmup, final=0.0, peak=0.2, total=60):
    done = np.clip((STEPS - warmup) / (total - warmup), 0, 1)
    falling = final + (peak - final) * (1 + np.cos(np.pi * done)) / 2
    return np.where(warmup > STEPS, peak * STEPS / max(warmup, 1), falling)


def steps_down(warmup, boundaries, factor, peak=0.2):
    falling = peak * factor ** (STEPS[:, None] >= np.array(boundaries)).sum(1)
    return np.where(warmup > STEPS, peak * STEPS / max(warmup, 1), falling)


@pytest.mark.parametrize("warmup_epochs", [0, 1.5])
@pytest.mark.parametrize("final", [0.0, 0.01])
def test_a_cosine_falls_from_the_end_of_the_warmup_to_the_end_of_the_run(warmup_epochs, final):
    schedule, _ = derive(kind="cosine", warmup_epochs=warmup_epochs, final_rate=final)
    warmup = 10 * warmup_epochs
    # The final rate is scaled as the rate is: 16 rows -> 32.
    np.testing.assert_allclose(rates(schedule), cosine(warmup, 2 * final), rtol=1e-5, atol=1e-8)
    assert type(schedule) is schedules.CosineDecay


@pytest.mark.parametrize("warmup_epochs", [0, 1.5])
def test_steps_fall_at_the_first_step_of_their_epochs_whatever_the_warmup(warmup_epochs):
    schedule, _ = derive(kind="step", warmup_epochs=warmup_epochs, step_epochs=(2, 4.5, 5), step_factor=0.5)
    np.testing.assert_allclose(rates(schedule), steps_down(10 * warmup_epochs, (20, 45, 50), 0.5), rtol=1e-6)


def test_a_constant_rate_stays_where_the_warmup_ends():
    assert derive()[0] == 0.2
    np.testing.assert_allclose(rates(derive(warmup_epochs=2)[0]), steps_down(20, (), 1.0), rtol=1e-6)


def test_a_warmup_as_long_as_the_run_is_all_of_it():
    schedule, _ = derive(kind="cosine", warmup_epochs=7)
    np.testing.assert_allclose(rates(schedule), 0.2 * STEPS / 70, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, ""),
        ({"warmup_epochs": 2}, ", warm-up over 2 epochs = 20 steps"),
        ({"kind": "cosine"}, ", cosine to 0 over 60 steps"),
        (
            {"kind": "cosine", "warmup_epochs": 2, "final_rate": 0.01},
            ", warm-up over 2 epochs = 20 steps, cosine to 0.02 over 60 steps",
        ),
        ({"kind": "step", "step_epochs": (3,)}, ", times 0.1 at epoch 3"),
        (
            {"kind": "step", "warmup_epochs": 0.5, "step_epochs": (2, 4.5), "step_factor": 0.5},
            ", warm-up over 0.5 epochs = 5 steps, times 0.5 at epochs 2, 4.5",
        ),
    ],
)
def test_one_line_describes_the_whole_schedule(options, line):
    assert derive(**options)[1] == "learning rate 0.1 for 16 rows -> 0.2 for 32 rows (linear)" + line


def test_no_line_describes_a_rate_that_is_used_as_it_is_given():
    assert make_learning_rate(RunConfig(), **SIZES) == (2e-3, "")
