"""The built-in archive: a server that plays the JSOC's synoptic AIA and HMI image trees.

Everything it serves is rendered from two real frames, for any date, wavelength and minute, so
that the whole pipeline can be tried and tested without the network. What it serves are
simulations, not observations.

The pipeline does not know this package; it sees HTTP only.

- ``archive``: the server; ``python -m sdoml_demo`` runs it. ``record`` is its log.
- ``frames``: files by path, rendered or from the cache.
- ``absences``: which frames are missing or bad, as in life.
- ``faults``: failures of transport, on request.
- ``aia_file``, ``aia_render``, ``hmi_render``: frames as the archive's files.
- ``sky``: the state of the Sun and the Earth's distance at a time.
- ``sun``, ``surface``, ``planes``: the pixels, from the real frames to an image of another time.
- ``tour``, ``ui``: what ``make demo`` and ``make ui`` run; ``instance``: their Dagster.
- ``rice``: the RICE_1 encoder. ``glyphs``: letters for the HMI label.
"""
