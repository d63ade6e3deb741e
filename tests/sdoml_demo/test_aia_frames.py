"""Rendered AIA files, read with astropy instead of the pipeline's own decoder."""

import hashlib
import io
import warnings
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files

import numpy as np
import pytest
from astropy.io import fits

from sdoml_demo.absences import PERFECT, Condition, Quality
from sdoml_demo.render import solar_state, sun
from sdoml_demo.render.aia import FLARE_EXPOSURE, PASSBANDS, expose
from sdoml_demo.render.aia_file import render_aia
from sdoml_demo.render.real_frames import WAVELENGTHS
from sdoml_demo.render.solar_state import REFERENCE_TIME

REAL = files("sdoml_demo") / "data" / "AIA20180820_1248_0193.fits"
NOON = datetime(2014, 2, 3, 12, 0, tzinfo=UTC)


def opened(data):
    """Return the header and the image. astropy warns about the illegal cards in every file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        with fits.open(io.BytesIO(data)) as hdus:
            return hdus[1].header, np.array(hdus[1].data)


def quiet_level(image):
    """Return the median of the inner half of the disk."""
    return float(np.median(image[312:712, 312:712]))


def radii():
    offset = np.arange(1024) - 511.5
    return np.hypot(offset[:, None], offset[None, :])


def limb_radius(image):
    """Return the radius at which the mean brightness around the disk falls to half."""
    r = radii()
    near = (r > 370) & (r < 430)
    ring = np.floor(r[near] * 4).astype(int)
    profile = np.bincount(ring, image[near])[1480:] / np.bincount(ring)[1480:]
    steepest = int(np.argmin(np.diff(profile)))
    inside = profile[steepest - 12 : steepest - 5].mean()
    outside = profile[steepest + 6 : steepest + 13].mean()
    half = (inside + outside) / 2
    window = slice(steepest - 4, steepest + 6)
    centers = 370 + (np.arange(profile.size) + 0.5) / 4
    return float(np.interp(-half, -profile[window], centers[window]))


def smooth(image):
    """Return the square roots of the means of 4×4 blocks of pixels."""
    rows, columns = image.shape
    return np.sqrt(np.maximum(image.reshape(rows // 4, 4, columns // 4, 4).mean((1, 3)), 0))


def noise(image):
    """Return each pixel's difference from its four neighbors, scaled to the noise of a pixel."""
    result = np.zeros_like(image)
    around = image[:-2, 1:-1] + image[2:, 1:-1] + image[1:-1, :-2] + image[1:-1, 2:]
    result[1:-1, 1:-1] = (image[1:-1, 1:-1] - around / 4) / np.sqrt(1.25)
    return result


def ones_sum(data):
    """Compute a FITS checksum as in the standard, from the high and low halves of words."""
    halves = np.frombuffer(data, ">u2").astype(np.int64)
    high, low = int(halves[::2].sum()), int(halves[1::2].sum())
    while high >> 16 or low >> 16:
        high, low = (high & 0xFFFF) + (low >> 16), (low & 0xFFFF) + (high >> 16)
    return high << 16 | low


@pytest.mark.parametrize("wavelength", PASSBANDS)
def test_files_are_valid_and_structured_like_the_archive(wavelength):
    data = render_aia(NOON, wavelength, PERFECT)
    assert len(data) % 2880 == 0
    # Do not let astropy verify CHECKSUM. It repairs the illegal cards first, so real files fail.
    assert ones_sum(REAL.read_bytes()[2880:]) == 0xFFFFFFFF
    assert ones_sum(data[2880:]) == 0xFFFFFFFF
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        assert len(hdus) == 2
        assert hdus[0].data is None
        header = hdus[1].header
        assert header["CHECKSUM"].isalnum()
        assert int(header["DATASUM"]) == ones_sum(data[20160:])
        assert (header["ZCMPTYPE"], header["ZBITPIX"]) == ("RICE_1", 32)
        assert (header["ZTILE1"], header["ZTILE2"]) == (1024, 1)
        assert (header["BSCALE"], header["BLANK"]) == (0.0625, -(2**31))
    header, image = opened(data)
    assert image.shape == (1024, 1024)
    assert header["WAVELNTH"] == wavelength
    assert np.isfinite(image).all()
    assert 0.0005 < (image <= 0).mean() < 0.1  # as in real frames
    assert -5 < image.min() < 0


def test_illegal_cards_match_the_archive():
    header, _ = opened(render_aia(NOON, 193, PERFECT))
    assert header["RSUN_OBS"] > 900
    with pytest.raises(fits.verify.VerifyError):
        header.get("RSUN_LF")
    with pytest.raises(fits.verify.VerifyError):
        dict(header)
    data = render_aia(NOON, 193, PERFECT)
    assert b"RSUN_LF = nan" in data
    assert b"OSCNMEA" in data
    assert b"= -nan" in data


def test_header_describes_the_frame():
    minute = datetime(2018, 8, 20, 12, 48, tzinfo=UTC)
    header, _ = opened(render_aia(minute, 193, PERFECT))
    # These are the values of the real frame.
    assert header["DATE-OBS"] == "2018-08-20T12:48:04.84"
    assert header["T_OBS"] == "2018-08-20T12:48:05.84Z"
    assert header["WAVE_STR"] == "193_THIN"
    assert header["EXPTIME"] == pytest.approx(2.0, abs=0.001)
    assert header["RSUN_OBS"] == pytest.approx(948.41005, abs=0.15)
    assert header["DSUN_OBS"] == pytest.approx(151369980800, rel=1.5e-4)
    assert header["CRLN_OBS"] == pytest.approx(168.891373, abs=0.15)
    assert header["CRLT_OBS"] == pytest.approx(6.861046, abs=0.05)
    assert header["CAR_ROT"] == 2207
    assert (header["QUALITY"], header["CDELT1"], header["CRPIX1"]) == (0, 2.4, 512.5)


@pytest.mark.parametrize("wavelength", [1600, 1700])
@pytest.mark.parametrize("month", [1, 4, 7])
def test_sharp_limb_is_at_rsun_obs(wavelength, month):
    header, image = opened(render_aia(NOON.replace(month=month), wavelength, PERFECT))
    expected = header["RSUN_OBS"] / 2.4
    assert limb_radius(image) == pytest.approx(expected, abs=0.15)
    if month == 1:
        assert expected == pytest.approx(975.5 / 2.4, abs=0.2)


def test_coronal_limb_is_outside_the_photosphere_and_scales_with_distance():
    brightest = []
    for month in (1, 7):
        header, image = opened(render_aia(NOON.replace(month=month), 193, PERFECT))
        distance = radii() * 2.4 / header["RSUN_OBS"]
        near = (distance > 0.9) & (distance < 1.1)
        ring = np.floor(distance[near] * 400).astype(int) - 360
        profile = np.bincount(ring, np.minimum(image[near], 3000)) / np.bincount(ring)
        brightest.append(0.9 + (int(np.argmax(profile)) + 0.5) / 400)
    assert brightest[0] == pytest.approx(brightest[1], abs=0.004)
    assert 1.005 < brightest[0] < 1.03


@pytest.mark.parametrize("wavelength", [131, 171, 193, 304, 1600])
def test_brightness_follows_degradation(wavelength):
    # The times are 134 rotations apart, so both frames show the same side of the Sun.
    levels = []
    times = datetime(2010, 6, 1, 12, tzinfo=UTC), datetime(2020, 6, 3, 9, 20, tzinfo=UTC)
    for time in times:
        header, image = opened(render_aia(time, wavelength, PERFECT))
        cycle = 1 + PASSBANDS[wavelength].cycle * solar_state.activity(time.date())
        levels.append(quiet_level(image) / header["EXPTIME"] / cycle)
    factors = [solar_state.degradation(time.date(), wavelength) for time in times]
    assert levels[1] / levels[0] == pytest.approx(factors[1] / factors[0], rel=0.1)
    assert factors[1] < 0.85 * factors[0]


def test_later_cycles_repeat_the_last_cycle():
    years = range(2020, 2031)
    first, second = ([solar_state.activity(date(y + k, 1, 1)) for y in years] for k in (0, 11))
    assert max(first) > 0.9
    assert min(first) < 0.1
    assert second == pytest.approx(first, abs=0.08)  # one cycle of 10.9 years later


def test_degradation_outside_the_table_uses_the_nearest_row():
    assert solar_state.degradation(NOON.date().replace(year=2024), 304) == 0.0592751
    assert solar_state.degradation(NOON.date().replace(year=2009), 94) == 1.02541


def test_rendered_sun_rotates_and_its_noise_changes():
    _, first = opened(render_aia(NOON, 171, PERFECT))
    _, soon = opened(render_aia(NOON + timedelta(minutes=2), 171, PERFECT))
    _, later = opened(render_aia(NOON + timedelta(days=2), 171, PERFECT))
    inner = np.s_[300:700, 300:700]

    def alike(a, b):
        return np.corrcoef(np.sqrt(abs(a[inner])).ravel(), np.sqrt(abs(b[inner])).ravel())[0, 1]

    assert alike(first, soon) > 0.97
    assert alike(first, later) < 0.8
    # In two days, the Sun rotates by about 26°. This moves features at the disk's center by
    # 395·sin 26° ≈ 173 pixels to the west.
    shifts = range(0, 260, 4)
    strip = np.sqrt(abs(first[400:620, 300:500]))
    match = [
        np.corrcoef(strip.ravel(), np.sqrt(abs(later[400:620, 300 + s : 500 + s])).ravel())[0, 1]
        for s in shifts
    ]
    assert 120 < shifts[int(np.argmax(match))] < 220
    assert (first != soon).mean() > 0.8


def test_uv_shows_the_surface_and_euv_the_corona():
    images = {w: np.sqrt(abs(opened(render_aia(NOON, w, PERFECT))[1])) for w in (193, 1700)}
    off_limb = (radii() > 420) & (radii() < 440)
    disk = radii() < 350
    ratio = {w: float(i[off_limb].mean() / i[disk].mean()) for w, i in images.items()}
    assert ratio[1700] < 0.35
    assert ratio[193] > 0.5
    assert np.corrcoef(images[193][disk], images[1700][disk])[0, 1] < 0.5


@pytest.fixture(scope="module")
def images():
    """Return the real image of each wavelength and the one rendered for its time, in DN.

    The rendered image has no additional active regions.
    """
    pairs = {}
    sun._tone_once.cache_clear()
    for wavelength in WAVELENGTHS:
        path = REAL.parent / "real_2014" / f"AIA20140101_0000_{wavelength:04d}.fits"
        real_header, real = opened(path.read_bytes())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(solar_state, "regions", lambda _: ())
            header, rendered = opened(render_aia(REFERENCE_TIME, wavelength, PERFECT))
        pairs[wavelength] = real, rendered * real_header["EXPTIME"] / header["EXPTIME"]
    sun._tone_once.cache_clear()
    return pairs


@pytest.mark.parametrize("wavelength", WAVELENGTHS)
def test_structure_matches_the_real_frame_of_the_channel(images, wavelength):
    # Use only the middle of the disk, where there are no seams between tiles or rendered regions.
    middle = np.s_[380:660, 400:600]
    rendered = smooth(images[wavelength][1][middle])
    alike = {
        other: np.corrcoef(rendered.ravel(), smooth(real[middle]).ravel())[0, 1]
        for other, (real, _) in images.items()
    }
    assert alike[wavelength] > 0.9
    assert max(alike, key=alike.get) == wavelength


@pytest.mark.parametrize("wavelength", WAVELENGTHS)
def test_brightness_matches_the_real_frame(images, wavelength):
    real, rendered = images[wavelength]
    for low, high in ((0.0, 0.3), (0.5, 0.7), (1.05, 1.1), (1.15, 1.2)):
        ring = (radii() >= low * 406.6) & (radii() < high * 406.6)
        level = np.median(rendered[ring])
        assert level == pytest.approx(np.median(real[ring]), rel=0.25, abs=0.1)


@pytest.mark.parametrize("wavelength", WAVELENGTHS)
def test_noise_matches_the_real_frame(images, wavelength):
    for low, high in ((1.08, 1.15), (1.6, 1.7)):
        ring = (radii() >= low * 406.6) & (radii() < high * 406.6)
        ring[[0, -1]] = ring[:, [0, -1]] = False
        real, rendered = (noise(image)[ring].std() for image in images[wavelength])
        assert rendered == pytest.approx(real, rel=0.3)


@pytest.mark.parametrize("wavelength", WAVELENGTHS)
def test_corners_are_as_dark_as_those_of_the_real_frame(images, wavelength):
    corner = radii() > 1.6 * 406.6
    real, rendered = (float(image[corner].mean()) for image in images[wavelength])
    assert rendered == pytest.approx(real, abs=0.15)


@pytest.mark.parametrize("month", [1, 7])
def test_smaller_sun_has_no_streaks_at_the_edges(month):
    # When the real frame from January is scaled to July, it ends 16 pixels before the edge.
    _, image = opened(render_aia(datetime(2015, month, 4, tzinfo=UTC), 211, PERFECT))
    rows = np.s_[400:620]
    for edge in (image[rows, :14], image[rows, -14:]):
        fall = abs(edge.mean(axis=0)[0] - edge.mean(axis=0)[-1])
        assert fall > 0.02 * edge.mean()


def test_304_is_rendered_from_131_with_a_bright_limb():
    _, image = opened(render_aia(REFERENCE_TIME, 304, PERFECT))
    _, source = opened(render_aia(REFERENCE_TIME, 131, PERFECT))
    disk = radii() < 350
    alike = np.corrcoef(np.sqrt(abs(image[disk])), np.sqrt(abs(source[disk])))[0, 1]
    assert 0.6 < alike < 0.97
    limb = (radii() > 404) & (radii() < 412)
    above = (radii() > 440) & (radii() < 460)
    assert np.median(image[limb]) > 1.3 * np.median(image[disk])
    assert np.median(image[above]) < 0.25 * np.median(image[disk])


def test_flares_shorten_only_euv_exposures():
    minutes = [datetime(2014, 2, 1, tzinfo=UTC) + timedelta(minutes=2 * k) for k in range(3000)]
    short = [m for m in minutes if expose(m, 171).seconds < 0.3]
    assert 5 < len(short) < 60
    for minute in short:
        assert expose(minute, 171).seconds == pytest.approx(FLARE_EXPOSURE, abs=0.001)
        assert expose(minute, 1700).seconds == pytest.approx(1.2, abs=0.001)
    header, image = opened(render_aia(short[0], 171, PERFECT))
    after, normal = opened(render_aia(short[0] + timedelta(minutes=2), 171, PERFECT))
    assert quiet_level(image) < 0.2 * quiet_level(normal)
    assert quiet_level(image) / header["EXPTIME"] == pytest.approx(
        quiet_level(normal) / after["EXPTIME"], rel=0.05
    )


def test_bad_frames_are_marked_in_header_and_image():
    header, image = opened(render_aia(NOON, 193, Condition(quality=Quality.DARK.value)))
    assert (header["QUALITY"], header["IMG_TYPE"]) == (1 << 16, "DARK")
    assert image.max() < 5
    missing = Condition(quality=Quality.BLOCKS_MISSING.value)
    header, image = opened(render_aia(NOON, 193, missing))
    assert np.isnan(image).sum() == 64 * 1024 == header["MISSVALS"] // 16
    header, image = opened(render_aia(NOON, 193, Condition(spotted=True)))
    assert header["QUALITY"] == 0
    assert 1 <= np.isnan(image).sum() <= 5


@pytest.mark.parametrize(
    ("wavelength", "digest"),
    [
        (94, "5f64499656144646"),
        (171, "fc398d11e32eb899"),
        (193, "4014b38e366a45d2"),
        (304, "95634f9773e60c16"),
        (1700, "727180fd21389462"),
    ],
)
def test_bytes_are_the_same_on_every_machine(wavelength, digest):
    # The hashes must be equal on all machines. Change them only if the rendering changes.
    data = render_aia(NOON, wavelength, PERFECT)
    assert hashlib.sha256(data).hexdigest()[:16] == digest
