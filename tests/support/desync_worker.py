"""What each worker of `test_desync.py` runs: worker 0 changes a weight by itself, in a callback."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import keras
from support import jobs

import tfdist


def main():
    cluster = tfdist.read_cluster(os.environ)
    strategy = tfdist.choose_strategy("multi_worker", cluster=cluster)
    with strategy.scope():
        model = jobs.make_mlp()

    class Meddler(keras.callbacks.Callback):
        """Runs on the chief alone, as every callback that tfdist does not know."""

        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                self.model.layers[0].bias.value.values[0].assign_add([1.0] * 8)

    x, y = jobs.make_rows(dtype="float32")
    try:
        tfdist.fit(model, x, y, batch_size=20, epochs=2, verbose=0, callbacks=[Meddler()])
    except RuntimeError as error:
        print(error)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
