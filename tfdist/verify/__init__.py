"""`python -m tfdist.verify`: checks that a model trains on N replicas as on one device."""
