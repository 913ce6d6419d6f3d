"""Operations on tensors that TensorFlow lacks."""
