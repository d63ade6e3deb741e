"""Take the screenshots of the viewer in README.md and docs/view.md.

    python -m tools.viewer_pictures .demo/store/releases/sdoml-lite [--folder docs/images]

The release is the one from ``make demo``, with simulated frames of 2024-03-08. The script needs
Chromium. JPEG keeps all colors of eight channels at a fifth of the size of a PNG.
"""

import argparse
import io
from pathlib import Path

from PIL import Image

from tests.support.chromium import open_page
from tests.support.viewer import serving

PATIENCE = 120_000
VIEWS = {
    "viewer-day": "t=2024-03-08T12:00",
    "viewer-compare": "view=compare&t=2024-03-08T12:00&a=AIA_0171&b=HMI_M&grid=1",
}
DRAWN = "window.pictures = 0; document.addEventListener('drawn', () => { window.pictures += 1; });"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("release", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    for name, address in VIEWS.items():
        with serving(options.release) as viewer, open_page(PATIENCE) as page:
            page.emulate_media(color_scheme="dark")
            page.add_init_script(DRAWN)
            page.goto(f"{viewer}#{address}")
            page.wait_for_function("() => window.pictures > 0")
            page.wait_for_load_state("networkidle")
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        path = options.folder / f"{name}.jpg"
        picture.save(path, quality=90, subsampling=0, optimize=True)
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
