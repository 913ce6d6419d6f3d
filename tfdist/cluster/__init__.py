"""Who trains together: TF_CONFIG, schedulers, meeting the others. No TensorFlow."""
