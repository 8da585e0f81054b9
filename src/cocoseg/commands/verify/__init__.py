"""`cocoseg verify`: find and repair what is missing or corrupt."""
