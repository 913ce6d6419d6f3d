"""The names in a `RunConfig`, checked without TensorFlow."""

from tfdist import data, models


def check_names(config):
    """Raises UsageError for a model or an option that does not exist, and for a data set that is not there."""
    if isinstance(config.model, str):
        models.check_name(config.model, config.model_options)
    if isinstance(config.dataset, str):
        data.check_name(config.dataset, data_dir=config.data_dir, download=config.download)
