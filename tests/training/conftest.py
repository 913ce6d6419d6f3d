"""Declares the marks of Keras' own tests."""


def pytest_configure(config):
    """Declares Keras' mark, because markers are strict here."""
    config.addinivalue_line("markers", "requires_trainable_backend: a mark of Keras' own tests")
