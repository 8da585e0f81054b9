"""`python -m cocoseg` is the command `cocoseg`."""

from cocoseg.cli import main

main()
