"""`cocoseg predict`: predict masks of a user's own images."""
