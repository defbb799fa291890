"""What we held while an answer was on its way, and the rows of histories. Synchronous."""
