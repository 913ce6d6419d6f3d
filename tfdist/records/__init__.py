"""What a run leaves in its folder besides checkpoints: the same for `fit`, a hand-written loop and the command."""
