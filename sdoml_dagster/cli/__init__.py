"""The command ``sdoml``: thin commands that run the same jobs as Dagster's UI.

They are built with click, which Dagster already depends on. Click options are plain objects, so
they can be generated from the settings model. Typer would need a hand-written signature for each
command.
"""
