"""The stage `train`: fit a model and keep its best epoch."""
