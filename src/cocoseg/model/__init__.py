"""The networks, their input and their weights on disk."""
