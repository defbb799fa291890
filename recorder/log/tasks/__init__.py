"""The inbox, the writer, the WAL checkpointer and the publisher of checkpoints."""
