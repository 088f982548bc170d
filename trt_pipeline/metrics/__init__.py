"""A user's own metrics: what a function of outputs and labels makes of the original and of each candidate."""
