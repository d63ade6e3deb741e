"""``python -m sdoml_cli``: the same as ``sdoml``."""

from sdoml_cli.main import main

main()
