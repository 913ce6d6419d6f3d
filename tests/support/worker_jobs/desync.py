"""What two workers train for `tests/callbacks/test_desync.py`."""

import keras
import pytest
from support import jobs

import tfdist


class Meddler(keras.callbacks.Callback):
    """Changes a weight; it runs on the chief alone, as every callback that tfdist does not know."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            self.model.layers[0].bias.value.values[0].assign_add([1.0] * 8)


def error_after_a_change_on_the_chief(strategy):
    """Returns the error of a training in which worker 0 changes a weight by itself."""
    with strategy.scope():
        model = jobs.make_mlp()
    x, y = jobs.make_rows(dtype="float32")
    with pytest.raises(RuntimeError) as caught:
        tfdist.fit(model, x, y, batch_size=20, epochs=2, verbose=0, callbacks=[Meddler()])
    return str(caught.value)
