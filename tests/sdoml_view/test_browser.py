"""Every feature of the viewer, used with mouse and keyboard in a real Chromium browser."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from sdoml_core.loader import SDOMLlite
from tests.support.chromium import VIEWPORT, open_browser
from tests.support.synthetic_shards import write_release
from tests.support.viewer import CHANNELS, SIDE, make_release, serving

PATIENCE = 60_000

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with open_browser() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test if a script or the content policy reports an error."""
    context = browser.new_context(viewport=VIEWPORT, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))

    def note(message: ConsoleMessage) -> None:
        # The browser may request the icon after the server has stopped.
        stopped = "ERR_CONNECTION_REFUSED" in message.text
        if message.type == "error" and not stopped and "bad.csv" not in message.location["url"]:
            problems.append(f"{message.text} {message.location['url']}")

    page.on("console", note)
    yield page
    context.close()
    assert problems == []


def open_at(page: Page, viewer: str, address: str = "") -> None:
    page.goto(f"{viewer}#{address}")
    expect(page.locator("#date")).not_to_have_value("")


def panel(page: Page, channel: str):
    return page.locator(f'[data-channel="{channel}"]')


def expect_picture(page: Page, channel: str) -> None:
    """Wait until the frame of a channel has been drawn."""
    label = re.compile("UTC$")  # it ends with "no frame" until the frame has arrived
    expect(panel(page, channel).locator("canvas")).to_have_attribute("aria-label", label)


def brightness(page: Page, selector: str) -> float:
    """Return the mean brightness of a canvas, from 0 to 255."""
    return page.locator(selector).evaluate(
        """canvas => {
          const [w, h] = [canvas.width, canvas.height];
          const data = canvas.getContext("2d").getImageData(0, 0, w, h).data;
          let sum = 0;
          for (let i = 0; i < data.length; i += 4)
            sum += Math.max(data[i], data[i + 1], data[i + 2]);
          return sum / (data.length / 4);
        }"""
    )


def test_first_view_shows_all_channels_with_times_and_markers(page: Page, viewer: str) -> None:
    open_at(page, viewer)
    expect(page.locator("#time")).to_have_text("2022-11-02 01:00 UTC")
    expect(page.locator("#panels .panel")).to_have_count(len(CHANNELS))
    stand_in = panel(page, "AIA_0171")
    expect(stand_in).to_contain_text("01:02:04 (+2 min 4 s)")
    expect(stand_in.get_by_text("stand-in")).to_be_visible()
    expect(panel(page, "HMI_M")).to_contain_text("00:59:52 (−7 s)")
    expect(panel(page, "AIA_1700")).to_contain_text("no frame in this dataset")
    expect_picture(page, "HMI_M")
    assert brightness(page, '[data-channel="HMI_M"] canvas') > 40
    page.keyboard.press("ArrowRight")
    expect(stand_in.get_by_text("provisional")).to_be_visible()
    expect(panel(page, "AIA_1700").locator(".absent")).to_be_hidden()


def test_keyboard_can_step_play_zoom_and_enlarge(page: Page, viewer: str) -> None:
    open_at(page, viewer)
    time = page.locator("#time")
    for key, shown in (
        ("ArrowRight", "2022-11-02 01:15"),
        ("ArrowLeft", "2022-11-02 01:00"),
        ("Shift+ArrowRight", "2022-11-03 01:00"),
        ("Shift+ArrowLeft", "2022-11-02 01:00"),
    ):
        page.keyboard.press(key)
        expect(time).to_have_text(f"{shown} UTC")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(time).not_to_have_text("2022-11-02 01:00 UTC")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    page.keyboard.press("2")
    expect(page.locator("#panels .panel")).to_have_count(1)
    expect(panel(page, "AIA_0211")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#panels .panel")).to_have_count(len(CHANNELS))
    page.keyboard.press("+")
    page.keyboard.press("d")  # pans, because the view is zoomed
    expect(page).to_have_url(re.compile("zoom=1.5"))
    page.keyboard.press("0")
    page.keyboard.press("g")
    expect(page.get_by_role("button", name="Grid")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("play or pause")
    page.keyboard.press("Escape")
    for key, view in (("m", "calendar"), ("v", "curves"), ("c", "compare"), ("d", "day")):
        page.keyboard.press(key)
        expect(page.locator(f"#view-{view}")).to_be_visible()


def test_slider_goes_to_any_slot(page: Page, viewer: str) -> None:
    open_at(page, viewer)
    page.get_by_label("Time", exact=True).fill("0")
    expect(page.locator("#time")).to_have_text("2022-11-02 00:00 UTC")
    page.get_by_label("Length of the time slider").select_option("3")
    expect(page.locator("#slot")).to_have_attribute("max", str(2 * 24 - 1))
    page.locator("#date").fill("2022-11-03")
    expect(page.locator("#time")).to_have_text("2022-11-03 00:00 UTC")


def test_playback_continues_to_the_next_day_and_loops_at_the_end(page: Page, viewer: str) -> None:
    open_at(page, viewer, "t=2022-11-02T05:15")
    page.get_by_label("Frames per second").first.select_option("30")
    page.get_by_role("button", name="Play").click()
    expect(page.locator("#date")).to_have_value("2022-11-03")
    page.get_by_role("button", name="Pause").click()


def test_zoom_is_linked_and_the_cursor_reads_all_channels(
    page: Page, viewer: str, release: Path
) -> None:
    open_at(page, viewer, "t=2022-11-02T01:15")
    canvas = panel(page, "AIA_0171").locator("canvas")
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4 + 1, box["y"] + box["height"] * 0.45 + 1)
    expect(page.locator("#readout")).to_contain_text("″")
    image, _ = SDOMLlite(release, CHANNELS)["2022-11-02T01:15"]
    for number, name in enumerate(CHANNELS):
        value = float(image[number, int(64 * 0.45), int(64 * 0.4)])
        expect(panel(page, name).locator(".value")).to_contain_text(f"{value:.4f}")
    expect(page.locator("#readout")).to_have_text(re.compile(r"^N\d\d\.\d° E\d\d\.\d°"))
    expect_picture(page, "HMI_M")
    before = brightness(page, '[data-channel="HMI_M"] canvas')
    page.mouse.wheel(0, -800)
    expect(page).to_have_url(re.compile("zoom="))
    # The disk also fills the other channel's picture.
    assert brightness(page, '[data-channel="HMI_M"] canvas') > before * 1.2
    page.get_by_role("button", name="Fit").click()
    canvas.click()
    expect(page.locator("#panels .panel")).to_have_count(1)


def test_channels_can_be_hidden(page: Page, viewer: str) -> None:
    open_at(page, viewer)
    page.get_by_role("button", name="AIA 1700 Å").click()
    expect(page.locator("#panels .panel")).to_have_count(3)
    expect(panel(page, "AIA_1700")).to_have_count(0)


def test_link_opens_the_same_view(page: Page, viewer: str) -> None:
    address = "view=compare&t=2022-11-03T02:30&a=AIA_0211&b=AIA_0171&mode=blend&mix=20"
    open_at(page, viewer, address)
    expect(page.get_by_role("combobox", name="A", exact=True)).to_have_value("AIA_0211")
    expect(page.get_by_role("radio", name="Blend")).to_be_checked()
    expect(page.locator("#mix")).to_have_value("20")
    expect(page.locator("#time")).to_have_text("2022-11-03 02:30 UTC")
    page.get_by_role("button", name="Export").click()
    link = page.get_by_role("dialog").locator("pre").first
    expect(link).to_contain_text("view=compare&t=2022-11-03T02:30")
    expect(link).to_contain_text("a=AIA_0211&b=AIA_0171&mode=blend&mix=20")


def test_compare_view_can_swipe_blend_and_subtract(page: Page, viewer: str) -> None:
    open_at(page, viewer, "view=compare&t=2022-11-02T01:15")
    captions = {
        "Swipe": "AIA 171 Å | HMI magnetogram",
        "Blend": "AIA 171 Å + HMI magnetogram",
        "Difference": "AIA 171 Å: change over 15 min",
    }
    pictures = set()
    for mode, caption in captions.items():
        page.get_by_role("radio", name=mode).click()
        expect(page.locator("#stage figcaption")).to_have_text(caption)
        pictures.add(page.locator("#stage canvas").screenshot())
    assert len(pictures) == 3
    # Only the noise differs off the disk, so the mean is middle gray.
    assert 100 < brightness(page, "#stage canvas") < 156
    page.get_by_role("radio", name="Swipe").click()
    box = page.locator("#stage canvas").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, middle, steps=4)
    page.mouse.up()
    expect(page.locator("#mix")).to_have_value("25")


def test_calendar_explains_gaps_and_opens_a_day(page: Page, viewer: str) -> None:
    open_at(page, viewer, "view=calendar")
    expect(page.locator("#calendar-title")).to_contain_text("258 frames on 3 days")
    canvas = page.locator(".band canvas")
    expect(canvas).to_have_attribute("aria-label", re.compile("258 of 288 frames"))
    canvas.hover(position={"x": 10, "y": 10})
    tooltip = page.get_by_role("tooltip")
    expect(tooltip).to_contain_text("Tue 1 Nov 2022")
    expect(tooltip).to_contain_text("6 rejected for QUALITY")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(tooltip).to_contain_text("Thu 3 Nov 2022")
    page.keyboard.press("Enter")
    expect(page.locator("#view-day")).to_be_visible()
    expect(page.locator("#date")).to_have_value("2022-11-03")


def test_light_curves_include_the_users_series(page: Page, viewer: str, tmp_path: Path) -> None:
    open_at(page, viewer, "view=curves")
    expect(page.locator("#curve-note")).to_contain_text("From the index")
    page.get_by_role("button", name="All").click()
    expect(page.locator(".curve canvas").first).to_have_attribute(
        "aria-label", re.compile("AIA 171 Å: 48 values from .* DN/s")
    )
    table = tmp_path / "goes.csv"
    table.write_text("time,flux\n2022-11-01,1e-7\n2022-11-02,1e-5\n2022-11-03,2e-6\n")
    page.locator("#series-file").set_input_files(table)
    own = page.locator(".curve.user canvas")
    expect(own).to_have_attribute("aria-label", re.compile("flux · goes.csv: 3 values"))
    own.hover(position={"x": 600, "y": 40})
    expect(page.get_by_role("tooltip")).to_contain_text("flux · goes.csv")
    own.click(position={"x": 600, "y": 40})
    expect(page.locator("#view-day")).to_be_visible()
    page.keyboard.press("v")
    page.get_by_role("button", name="Remove flux · goes.csv").click()
    expect(own).to_have_count(0)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n2,3\n")
    with page.expect_response(lambda reply: reply.status == 400):
        page.locator("#series-file").set_input_files(tmp_path / "bad.csv")
    expect(page.get_by_role("alert")).to_contain_text("no time column")


def test_links_pictures_movies_and_code_can_be_exported(
    page: Page, viewer: str, release: Path, tmp_path: Path
) -> None:
    open_at(page, viewer, "t=2022-11-02T01:15&channels=AIA_0171,HMI_M")
    expect(panel(page, "AIA_0171")).to_contain_text("provisional")
    page.get_by_role("button", name="Export").click()
    dialog = page.get_by_role("dialog")
    lines = dialog.locator("pre").nth(2).inner_text()
    names: dict[str, object] = {}
    exec(lines, names)
    expected, time = SDOMLlite(release, ["AIA_0171", "HMI_M"])["2022-11-02T01:15"]
    assert (names["image"] == expected).all()
    assert names["time"] == time

    def download(button: str) -> bytes:
        with page.expect_download() as waiting:
            dialog.get_by_role("button", name=button).click()
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path.read_bytes()

    picture = Image.open(io.BytesIO(download("PNG of this view")))
    assert picture.width > 400
    assert picture.convert("L").getextrema()[1] > 200
    assert download("FITS for sunpy").startswith(b"SIMPLE")
    with av.open(io.BytesIO(download("MP4"))) as video:
        assert sum(1 for _ in video.decode(video=0)) == 24
    assert Image.open(io.BytesIO(download("Animated WebP"))).n_frames == 24


@pytest.mark.parametrize("view", ["day", "compare", "curves", "calendar"])
def test_page_fits_on_a_phone(page: Page, viewer: str, view: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_at(page, viewer, f"view={view}")
    expect(page.locator(f"#view-{view} canvas").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    overflow = page.evaluate(
        """[...document.querySelectorAll("main button, main select, main input, footer button")]
           .filter(e => e.offsetParent && !e.closest(".chips"))
           .filter(e => e.getBoundingClientRect().right > 391)
           .map(e => e.id || e.textContent)"""
    )
    assert overflow == []


def test_theme_can_be_dark_or_light(page: Page, viewer: str) -> None:
    open_at(page, viewer)
    back = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(back)
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate(back) != light


@pytest.mark.parametrize("loaded", [True, False], ids=["frames loaded", "frames still loading"])
def test_controls_have_accessible_names(page: Page, viewer: str, loaded: bool) -> None:
    if not loaded:
        page.route("**/api/frames?**", lambda route: None)  # these requests never end
    open_at(page, viewer)
    if loaded:
        expect_picture(page, "AIA_0171")
    for view in ("calendar", "curves", "compare", "day"):
        page.get_by_role("tab", name=re.compile(view[:3], re.IGNORECASE)).click()
        expect(page.locator(f"#view-{view}")).to_be_visible()
        unnamed = page.evaluate(
            """[...document.querySelectorAll("button, select, input, canvas[role=img]")]
               .filter(e => e.offsetParent)
               .filter(e => !(e.ariaLabel || e.textContent.trim() || e.labels?.length))
               .map(e => e.outerHTML)"""
        )
        assert unnamed == []


def test_hostile_names_are_not_executed(page: Page, tmp_path: Path) -> None:
    name = '<img src=x onerror="document.title=`taken`"><script>document.title=1<'
    folder = make_release(tmp_path / name.replace("/", ""))
    table = tmp_path / "series.csv"
    table.write_text('time,"<img src=x onerror=alert(1)>"\n2022-11-01,1\n2022-11-03,2\n')
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    with serving(folder) as viewer:
        open_at(page, viewer, 't="><script>alert(1)</script>&channels=<b>,AIA_0171&view=<x>')
        expect(page.locator("#name")).to_have_text(folder.name)
        page.get_by_role("button", name="Export").click()
        expect(page.get_by_role("dialog").locator("pre").nth(2)).to_contain_text("<img src=x")
        page.keyboard.press("Escape")
        page.keyboard.press("v")
        page.locator("#series-file").set_input_files(table)
        expect(page.locator(".curve.user canvas")).to_have_count(1)
        page.locator(".curve.user canvas").hover()
        expect(page.get_by_role("tooltip")).to_contain_text("<img src=x onerror=alert(1)>")
        assert page.evaluate("document.title").endswith("SDOML-lite viewer")
        assert page.locator("img[src=x], main script").count() == 0
    assert dialogs == []


def test_unreadable_frames_are_not_shown(browser: Browser, tmp_path: Path) -> None:
    folder = make_release(tmp_path / "sun")
    page = browser.new_page(viewport=VIEWPORT)  # not `page`, which would report the failed request
    with serving(folder, at="2022-11-02T01:15") as viewer:
        open_at(page, viewer)
        expect_picture(page, "HMI_M")
        assert brightness(page, '[data-channel="HMI_M"] canvas') > 40
        for shard in folder.glob("*.tar"):
            shard.unlink()
        page.keyboard.press("Shift+ArrowRight")
        expect(panel(page, "HMI_M")).to_contain_text("could not be read")
        expect(page.get_by_role("alert")).to_contain_text("cannot open sdoml-lite-003.tar")
        assert brightness(page, '[data-channel="HMI_M"] canvas') < 5
    page.close()


def test_viewer_follows_a_live_dataset(page: Page, tmp_path: Path) -> None:
    live, grown = tmp_path / "live", tmp_path / "grown"
    for folder, days in ((live, 1), (grown, 2)):
        folder.mkdir()
        write_release(folder, days, channels=CHANNELS, side=SIDE)
    with serving(live) as viewer:
        page.clock.install()
        page.goto(viewer)
        time, follow = page.locator("#time"), page.get_by_role("button", name="Follow")
        expect(time).to_have_text("2022-11-01 05:45 UTC")
        expect(follow).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#age")).to_contain_text("newest:")
        for path in sorted(grown.iterdir(), reverse=True):  # the index is replaced last
            path.replace(live / path.name)
        page.clock.fast_forward(20_000)
        expect(time).to_have_text("2022-11-02 05:45 UTC")
        page.keyboard.press("ArrowLeft")
        expect(follow).to_have_attribute("aria-pressed", "false")
        expect(time).to_have_text("2022-11-02 05:30 UTC")
