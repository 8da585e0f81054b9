"""The built-in dataset, drawn by code."""
