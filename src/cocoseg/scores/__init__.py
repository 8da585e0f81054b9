"""IoU, Dice, their uncertainty, and the style of charts."""
