"""State, the pure training step, and the loop that feeds it."""
