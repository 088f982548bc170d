"""Samples: named input arrays whose leading axis is the batch axis."""
