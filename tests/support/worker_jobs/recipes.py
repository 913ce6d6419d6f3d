"""Jobs of recipes."""

from support import jobs

import tfdist
from tfdist.assembly import assemble
from tfdist.strategy import hardware
from tfdist.train import flags


@jobs.double_precision()
def train_recipe(strategy, arguments):
    """Trains in float64 what a command line of `tfdist.train` asks for, in another strategy; returns the weights.

    Args:
        strategy: the `tf.distribute.Strategy`; None for one device.
        arguments: what follows `python -m tfdist.train`, with `--steps`.
    """
    config = flags.read_config(arguments)
    strategy = strategy or tfdist.choose_strategy("one_device")
    hardware.set_seeds(config.seed)
    source, _ = assemble.make_sources(config)
    with strategy.scope():
        model = assemble.make_model(config, source)
    tfdist.fit(model, source, steps=config.steps, verbose=0)
    return model.get_weights()
