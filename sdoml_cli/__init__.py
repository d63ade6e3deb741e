"""The command ``sdoml``, which combines the commands of the installed packages.

Building needs the extra ``pipeline``; viewing needs the extra ``view``. Each works without the
other.
"""
