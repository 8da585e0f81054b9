"""The name that model cards use to load a model. It stays, since cards that are already published use it."""

from cocoseg.model.weights import load_checkpoint as load_checkpoint
