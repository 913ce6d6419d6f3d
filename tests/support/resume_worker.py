"""What each worker of `test_resume.py` runs: a run that is stopped and goes on, beside the undisturbed one.

Usage: python resume_worker.py FOLDER, with TF_CONFIG set.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import keras
import numpy as np
from support import jobs

import tfdist
from tfdist.callbacks.base import Callback
from tfdist.checkpoints import checkpoint


class StopAfter(Callback):
    """Stops every worker in the second epoch, while gradients wait for their update."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.steps_before + batch == 8:
            raise InterruptedError


def main(folder):
    cluster = tfdist.read_cluster(os.environ)
    strategy = tfdist.choose_strategy("multi_worker", cluster=cluster)
    whole, history = train(strategy)
    try:
        train(strategy, run_dir=folder, checkpoint_every_steps=2, callbacks=[StopAfter()])
    except InterruptedError:
        print("stopped")
    if cluster.rank == 0:
        # The other worker must take the chief's choice.
        (folder / "checkpoints" / "step-00000099").mkdir()
    resumed, rest = train(strategy, run_dir=folder, resume="must")
    print("same", all(map(np.array_equal, whole, resumed)), rest == history)
    try:
        train(strategy, run_dir=folder, resume="never")
    except (FileExistsError, checkpoint.CheckpointError) as error:
        print(type(error).__name__)


def train(strategy, **arguments):
    with strategy.scope():
        model = jobs.make_mlp(keras.optimizers.Adam(0.01, gradient_accumulation_steps=3), batch_norm=True)
    source = jobs.small_source(20)
    history = tfdist.fit(model, source, epochs=3, verbose=0, validation_data=source, **arguments).history
    return [np.asarray(variable) for variable in checkpoint.variables_of(model)], history


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
