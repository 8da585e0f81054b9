"""Files from elsewhere: which there are, how they come here, and where they are kept."""
