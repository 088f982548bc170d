"""What a model computes on its samples, tensor by tensor: ranges for int8, extents for fp16."""
