"""The commands. Each one is a thin layer over the jobs and the code of the assets.

Modules that take long to import are imported in the functions, so that ``--help`` is fast.
"""
