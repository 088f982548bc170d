"""What a SavedModel promises: its contract, read without executing or trusting it."""
