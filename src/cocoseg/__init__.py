"""Train segmentation models on COCO; trust, repeat, compare and share every result."""
