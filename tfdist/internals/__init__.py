"""The one place for Keras' and TensorFlow's private names.

Each use is small and is tested on the oldest and the newest supported versions, so that a release that moves one of
these names breaks one file, and a test shows it.
"""
