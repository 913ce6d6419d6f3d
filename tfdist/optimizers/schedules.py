"""Keras schedules, which compute the learning rate from the step and can be saved with the model."""

from typing import Any, Self

import keras
import tensorflow as tf
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from tfdist.optimizers.scaling import is_number, warmup_steps
from tfdist.process.errors import UsageError


@keras.saving.register_keras_serializable(package="tfdist")
class WarmUp(LearningRateSchedule):
    """Raises the learning rate linearly, then follows another schedule (Goyal et al. 2017, section 2.2).

    With W = `warmup_steps`, the rate of step s (from 0) is `start + (after(W) - start) * s / W` for s < W, and
    `after(s)` from there on. `after` counts from the beginning of the run, not from the end of the warm-up: a decay
    "at epoch 30", or a cosine over all steps, stays where it is whatever the length of the warm-up.

    A step is what Keras counts in `optimizer.iterations`; under `gradient_accumulation_steps` that is each micro-step
    for a schedule, so `global_batch` is then the rows of one micro-step.

    Before a model saved with it is loaded, import the class: `from tfdist.optimizers import WarmUp`.

    Args:
        after: a float, or any Keras schedule.
        steps, examples, epochs: the length, exactly one of them; 0 for no warm-up.
        global_batch: rows of a step, over all replicas, to derive the steps from examples or epochs.
        rows: rows of the training set, for epochs; an epoch has ceil(rows / global_batch) steps.
        start: the rate of the first step.

    Attributes:
        warmup_steps: W, derived.

    Raises:
        ValueError: a rate that is no finite number from 0, or a length that cannot be derived.

    Example:
        ```python
        import keras
        from tfdist import optimizers

        cosine = keras.optimizers.schedules.CosineDecay(0.4, decay_steps=10_000)
        optimizer = keras.optimizers.SGD(optimizers.WarmUp(cosine, epochs=5, global_batch=1024, rows=50_000))
        ```
    """

    def __init__(
        self,
        after: float | LearningRateSchedule,
        *,
        steps: int | None = None,
        examples: int | None = None,
        epochs: float | None = None,
        global_batch: int | None = None,
        rows: int | None = None,
        start: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(after, LearningRateSchedule) and not _is_rate(after):
            raise UsageError(f"WarmUp: after is {after!r}. Use a finite number from 0, or a Keras schedule.")
        if not _is_rate(start):
            raise UsageError(f"WarmUp: start is {start!r}. Use a finite number from 0.")
        self._length: dict[str, float | None] = {
            "steps": steps,
            "examples": examples,
            "epochs": epochs,
            "global_batch": global_batch,
            "rows": rows,
        }
        self.warmup_steps = warmup_steps(
            steps=steps, examples=examples, epochs=epochs, global_batch=global_batch, rows=rows
        )
        self.after = after if isinstance(after, LearningRateSchedule) else float(after)
        self.start = float(start)

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the learning rate of a step.

        Args:
            step: a whole number from 0: an int, or a scalar tensor or variable of any integer dtype.

        Returns:
            A scalar tensor of Keras' floatx.
        """
        dtype = keras.config.floatx()
        start = ops.convert_to_tensor(self.start, dtype)
        peak = self._after(ops.full_like(step, self.warmup_steps))
        # At least 1, because `where` would only hide a division by zero.
        done = ops.cast(step, dtype) / max(self.warmup_steps, 1)
        return ops.where(step < self.warmup_steps, start + (peak - start) * done, self._after(step))

    def _after(self, step: int | tf.Tensor) -> tf.Tensor:
        if isinstance(self.after, float):
            # Not `cast`, which makes a float32 of a Python float first.
            return ops.convert_to_tensor(self.after, keras.config.floatx())
        return ops.cast(self.after(step), keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, as JSON types."""
        after = self.after if isinstance(self.after, float) else keras.saving.serialize_keras_object(self.after)
        given = {name: _plain(value) for name, value in self._length.items() if value is not None}
        return {"after": after, **given, "start": self.start}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Makes the schedule that `get_config` described."""
        after = config["after"]
        if isinstance(after, dict):
            after = keras.saving.deserialize_keras_object(after)
        return cls(**{**config, "after": after})


def _is_rate(value: object) -> bool:
    return is_number(value) and value >= 0


def _plain(number: float) -> int | float:
    # NumPy's numbers are not JSON types.
    return int(number) if number == int(number) else float(number)
