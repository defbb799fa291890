"""The log and the tables as files, and the log back from them. No loop; files and units of work."""
