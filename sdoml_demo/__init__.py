"""The simulated archive: an HTTP server that simulates the JSOC's AIA and HMI image trees.

The server renders frames from a few real frames, for any date, wavelength and minute, so that you
can try and test the whole pipeline without Internet access. The frames are simulated, not observed.
The pipeline does not import this package. It uses the server only over HTTP.

- ``server``: the HTTP server, which ``python -m sdoml_demo`` runs. ``request_log``: its log.
- ``files``: the file at each path, rendered or from the cache.
- ``absences``: which frames are missing or bad, at the rates of the real archive.
- ``faults``: transport faults and wrong content, on request.
- ``tour``: the program that ``make demo`` runs. ``ui``: the program that ``make ui`` runs.
- ``render``: renders files from the real frames.

  - ``real_frames``: the packaged real frames. ``textures``: the data taken from each frame.
  - ``solar_state``: distance, orientation, activity and active regions of the Sun at a given time.
  - ``sun``: the Sun at one minute, as planes. ``surface``, ``active_regions``: the kernels.
  - ``aia``, ``hmi``: frames as pixels. ``noise``: reproducible noise. ``geometry``: the grid.
  - ``aia_file``: AIA frames as files. ``fits_file``: their headers and checksums.
  - ``label_font``: the letters of the HMI label.
"""
