"""Its tasks on trio."""
