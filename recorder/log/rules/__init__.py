"""What an event, a digest, a checkpoint and a covered period are. Pure."""
