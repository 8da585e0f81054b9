"""Files from elsewhere: the catalog of named datasets, transfers, and the cache."""
