"""The stage `evaluate`: score a model and describe it."""
