"""The callbacks that come with tfdist."""
