"""`python -m tfdist.verify`: does a model train on N replicas as on one device?"""
