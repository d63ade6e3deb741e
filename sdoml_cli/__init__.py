"""The command ``sdoml``, which combines the commands of the installed packages.

Building datasets needs the extra ``pipeline``, and viewing them needs the extra ``view``. Each
extra works without the other.
"""
