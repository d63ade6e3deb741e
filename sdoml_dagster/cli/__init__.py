"""The command ``sdoml``: thin commands that run the jobs in Dagster's UI.

Built with click, which Dagster already depends on. Its options are plain objects, so they can be
generated from the settings model; typer would need a hand-written signature for each command.
"""
