"""Opens pages in a headless browser at two widths, light and dark, and says what is wrong with them.

    scripts/screenshots.py FOLDER PAGE.html ...    # needs playwright and Chromium; writes FOLDER/NAME-WIDTH-SCHEME.png

Looks for messages on the console, pictures that are not drawn, and content that is wider than the screen. Exit status
1 if there is any.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTHS = (1200, 400)
SCHEMES = ("light", "dark")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

# Pictures without pixels, and elements that reach beyond the window although nothing around them scrolls.
FIND = """() => {
  const found = [];
  for (const image of document.images) {
    const shown = image.getClientRects().length > 0;
    if (shown && !(image.complete && image.naturalWidth > 0)) found.push("picture not drawn: " + image.alt);
  }
  const scrolls = (e) => {
    for (let p = e; p && p !== document.body; p = p.parentElement) {
      if (["auto", "scroll", "hidden"].includes(getComputedStyle(p).overflowX)) return true;
    }
    return false;
  };
  const width = document.documentElement.clientWidth;
  const whole = document.documentElement.scrollWidth;
  if (whole > width + 1) found.push("page scrolls sideways: " + whole);
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    if (box.width && box.right > width + 1 && box.left < width && !scrolls(element)) {
      const kind = element.className.baseVal ?? element.className;
      found.push("cut: " + element.tagName + " " + kind + " " + element.textContent.slice(0, 40));
    }
  }
  return found.slice(0, 8);
}"""


def main(folder: str, *pages: str) -> int:
    out, wrong = Path(folder), 0
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for page in pages:
            for width in WIDTHS:
                for scheme in SCHEMES:
                    wrong += look(browser, Path(page), width, scheme, out)
        browser.close()
    print(f"{len(pages)} pages, {len(pages) * len(WIDTHS) * len(SCHEMES)} views, {wrong} with a fault")
    return 1 if wrong else 0


def look(browser, path: Path, width: int, scheme: str, out: Path) -> int:
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    messages: list[str] = []
    tab.on("console", lambda message: messages.append(f"console {message.type}: {message.text}"))
    tab.on("pageerror", lambda error: messages.append(f"error: {error}"))
    tab.on("requestfailed", lambda request: messages.append(f"not loaded: {request.url}"))
    tab.goto(path.resolve().as_uri())
    tab.wait_for_load_state("load")
    messages += tab.evaluate(FIND)
    name = path.stem if path.stem != "index" else f"{path.parent.name}-index"
    tab.screenshot(path=out / f"{name}-{width}-{scheme}.png", full_page=True)
    tab.close()
    for message in messages:
        print(f"{path} {width} {scheme}: {message}")
    return bool(messages)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
