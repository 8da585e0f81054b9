"""COCO's annotation format: its types, categories and file names."""
