"""The commands beside the pipeline, one module or folder each."""
