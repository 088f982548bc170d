"""Three kinds of iris from four lengths: a premade Estimator, small enough to train in seconds."""
