"""Which way each gradient goes."""
