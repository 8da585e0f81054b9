"""The commands of `cocoseg`, one module or folder each."""
