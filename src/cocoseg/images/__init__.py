"""Image files: their headers, their pixels, and their masks."""
