"""`cocoseg export`: write a model for other runtimes."""
