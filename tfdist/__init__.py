"""Keras 3 models on every `tf.distribute` strategy: N replicas give what one device gives."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Public name -> the module that defines it. Loaded on first use (PEP 562), so that `import tfdist`,
# `--help` and the launcher stay instant: TensorFlow takes seconds to import.
_HOMES = {
    "Cluster": "tfdist.cluster.members",
    "read_cluster": "tfdist.cluster.environments.readers",
    "RunConfig": "tfdist.options.run",
    "ScheduleOptions": "tfdist.options.schedule",
    "StartOptions": "tfdist.options.start",
    "StepOptions": "tfdist.options.step",
    "CheckpointOptions": "tfdist.options.checkpoints",
    "TfdistError": "tfdist.process.errors",
    "choose_strategy": "tfdist.strategy.choose",
    "gather_rows": "tfdist.gradients",
    "global_sum": "tfdist.gradients",
    "global_loss": "tfdist.gradients",
    "keep_per_replica": "tfdist.strategy.per_replica",
    "global_mean": "tfdist.gradients",
    "regularization": "tfdist.gradients",
    "reduce_gradients": "tfdist.gradients",
    "apply_gradients": "tfdist.gradients",
    "fit": "tfdist.training",
    "evaluate": "tfdist.training",
    "predict": "tfdist.training",
    "open_run": "tfdist.training",
    "load_matching_weights": "tfdist.checkpoints.warm_start",
}
_PACKAGES = ("callbacks", "data", "models", "optimizers")

__all__ = [*_HOMES, *_PACKAGES]  # noqa: PLE0604 (the names are strings)


# What editors and type checkers see; a test compares it with the names above.
if TYPE_CHECKING:
    from tfdist import callbacks as callbacks
    from tfdist import data as data
    from tfdist import models as models
    from tfdist import optimizers as optimizers
    from tfdist.checkpoints.warm_start import load_matching_weights as load_matching_weights
    from tfdist.cluster.environments.readers import read_cluster as read_cluster
    from tfdist.cluster.members import Cluster as Cluster
    from tfdist.gradients import apply_gradients as apply_gradients
    from tfdist.gradients import gather_rows as gather_rows
    from tfdist.gradients import global_loss as global_loss
    from tfdist.gradients import global_mean as global_mean
    from tfdist.gradients import global_sum as global_sum
    from tfdist.gradients import reduce_gradients as reduce_gradients
    from tfdist.gradients import regularization as regularization
    from tfdist.options.checkpoints import CheckpointOptions as CheckpointOptions
    from tfdist.options.run import RunConfig as RunConfig
    from tfdist.options.schedule import ScheduleOptions as ScheduleOptions
    from tfdist.options.start import StartOptions as StartOptions
    from tfdist.options.step import StepOptions as StepOptions
    from tfdist.process.errors import TfdistError as TfdistError
    from tfdist.strategy.choose import choose_strategy as choose_strategy
    from tfdist.strategy.per_replica import keep_per_replica as keep_per_replica
    from tfdist.training import evaluate as evaluate
    from tfdist.training import fit as fit
    from tfdist.training import open_run as open_run
    from tfdist.training.predict import predict as predict
else:

    def __getattr__(name):
        if name in _PACKAGES:
            return _load(f"tfdist.{name}")
        if name in _HOMES:
            return getattr(_load(_HOMES[name]), name)
        from tfdist.process.nearest import missing_attribute

        raise missing_attribute(__name__, name, __all__)


def _load(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        from tfdist.process.versions import check_tensorflow

        check_tensorflow()
        raise


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
