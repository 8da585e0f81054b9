"""IoU, Dice and their uncertainty."""
