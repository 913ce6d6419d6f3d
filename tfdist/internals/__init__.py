"""The one place for Keras' and TensorFlow's private names.

Each use is small and is tested on the oldest and the newest supported versions, so that a release that moves one of
these names breaks one file, and a test shows it.
"""

from tfdist.internals.patches import readable_variables

# Here, because every part of tfdist that loads TensorFlow passes through: also `choose_strategy`, before any `fit`.
readable_variables.install()
