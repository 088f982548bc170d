"""The configuration: what to optimize, on which samples, within which bounds, for which servers."""
