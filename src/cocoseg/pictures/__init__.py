"""Pictures of masks for people to look at."""
