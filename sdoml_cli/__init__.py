"""The command ``sdoml``: joins the commands of the packages that are installed.

Building needs the extra ``pipeline``, viewing the extra ``view``. Each works without the other.
"""
