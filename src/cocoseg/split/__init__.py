"""The stage `split`: deal images out to training, validation and test."""
