"""`python -m gateway` is the command `assetgate`."""

from gateway.cli import main

main()
