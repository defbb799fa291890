"""The trio floor: the only one with ``async def``. Tasks meet in channels the daemon makes."""
