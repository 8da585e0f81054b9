"""The stage `filter`: choose annotations and images."""
