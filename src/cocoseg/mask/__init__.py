"""The stage `mask`: paint label maps."""
