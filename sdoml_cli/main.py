"""Entry point of the command ``sdoml``."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and end the process.

    ``sdoml view`` and ``sdoml movie`` do not import the pipeline. It may not be installed, and the
    import would delay the first picture.
    """
    try:
        from sdoml_view.commands import commands as viewer
    except ModuleNotFoundError as error:
        sys.exit(
            f"the sdoml command needs {error.name}. To view datasets, run "
            "pip install 'sdoml-lite[view]'. To build them, run "
            "pip install 'sdoml-lite[pipeline]'"
        )
    if sys.argv[1:2] and sys.argv[1] in viewer.commands:
        viewer(prog_name="sdoml")
        sys.exit(0)
    try:
        from sdoml_dagster.cli import main as pipeline
    except ImportError as error:
        if sys.argv[1:2] and not sys.argv[1].startswith("-"):
            sys.exit(str(error))
        viewer(prog_name="sdoml")
        sys.exit(0)
    for command in viewer.commands.values():
        pipeline.commands.add_command(command)
    pipeline.main()
