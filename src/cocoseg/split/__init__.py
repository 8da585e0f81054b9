"""The stage `split`: assign images to training, validation and test."""
