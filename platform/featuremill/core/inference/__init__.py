"""Models in Beam pipelines: handlers for RunInference whose elements are record batches."""
