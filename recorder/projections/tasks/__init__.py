"""The projector: folds what is behind its checkpoint, and waits."""
