"""``python -m sdoml_dagster.cli``: the same as ``sdoml``."""

from sdoml_dagster.cli.main import main

main()
