"""The name by which model cards load a model, kept for cards that were printed before."""

from cocoseg.model.weights import load_checkpoint as load_checkpoint
