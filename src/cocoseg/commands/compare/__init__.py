"""`cocoseg compare`: say whether one run is better than another."""
