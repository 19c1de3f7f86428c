"""nest.explain.page, read as text and in a headless Chromium."""

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from nest.explain.page import build_page


def explained() -> dict:
    """Two classes over three levels; the second class has an awkward name."""

    def blocks(*places: tuple[int, int]) -> list[dict]:
        return [
            {
                "level": 3 - i,
                "row": row,
                "column": column,
                "value": float(10 * i + row),
                "box": (
                    16 * column >> i,
                    16 * row >> i,
                    16 * (column + 1) >> i,
                    16 * (row + 1) >> i,
                ),
            }
            for i, (row, column) in enumerate(places)
        ]

    levels = [
        {"level": 3 - i, "values": np.arange(4.0**i).reshape(2**i, 2**i).tolist()}
        for i in range(3)
    ]
    common = {"levels": levels, "best_paths": [], "logit": 0.0, "class": 0}
    heat_maps = {"heat_maps": {"cam": [[0.0, 1.0], [2.0, -1.0]]}}
    first = {"name": "cat", "probability": 0.75, "path": blocks((0, 0), (1, 1), (3, 2))}
    second = {
        "name": "<b>dog & co",
        "probability": 0.25,
        "path": blocks((0, 0), (0, 0), (0, 1)),
    }
    return {
        "image_size": 16,
        "classes": [first | common | heat_maps, second | common | heat_maps],
    }


@pytest.fixture(scope="module")
def page() -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    return build_page([("one.png", pixels, explained()), ("two", pixels, explained())])


def test_the_page_needs_nothing_else(page: str):
    addresses = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^">\s]+)', page)
    assert addresses
    assert all(each.startswith(("data:", "#image-")) for each in addresses)
    assert "default-src 'none'" in page


def test_names_are_escaped_and_tags_are_balanced(page: str):
    assert "<b>dog" not in page and "&lt;b&gt;dog &amp; co" in page
    void = {"meta", "link", "img"}
    stack = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list) -> None:
            if tag not in void:
                stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert stack.pop() == tag

    Parser().feed(page)
    assert stack == []


def test_every_block_tells_its_value(page: str):
    assert page.count('class="block ') == 2 * 2 * (1 + 4 + 16)
    assert page.count("level 1, row 3, column 2: +14, on the path") == 2 * 2
    assert page.count('data-step="2"') == 2 * 2 * 2  # block and link


@pytest.fixture(scope="module")
def browser() -> Iterator:
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver: apt install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--window-size=1100,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    opened = webdriver.Chrome(options=options, service=service)
    yield opened
    opened.quit()


@pytest.mark.browser
def test_in_a_browser(browser, page: str, tmp_path: Path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    file = tmp_path / "index.html"
    file.write_text(page)
    browser.get(file.as_uri())

    def find(selector: str):
        return browser.find_element(By.CSS_SELECTOR, selector)

    def lit(panel: str) -> list:
        return browser.find_elements(By.CSS_SELECTOR, f"#{panel} .lit")

    first, second = find("#panel-0-0"), find("#panel-0-1")
    assert first.is_displayed() and not second.is_displayed()
    assert browser.execute_script(
        "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    )

    # A click shows the class, and its path lights up from the top down.
    find("#tab-0-1").click()
    assert second.is_displayed() and not first.is_displayed()
    assert len(lit("panel-0-1")) < 5
    WebDriverWait(browser, 5).until(lambda _: len(lit("panel-0-1")) == 5)
    assert find("#panel-1-0").is_displayed()  # the other image stays as it was

    # The keyboard does the same, and goes around.
    find("#tab-0-1").send_keys(Keys.ARROW_RIGHT)
    assert first.is_displayed()
    assert browser.switch_to.active_element.get_attribute("id") == "tab-0-0"

    # A block tells its value under the pointer and under the keyboard's focus.
    from selenium.webdriver import ActionChains

    block = find("#panel-0-0 [aria-label^='level 2, row 0, column 1']")
    ActionChains(browser).move_to_element(block).perform()
    status = find("#panel-0-0 .status")
    assert status.text == "level 2, row 0, column 1: +1"
    find("#tab-0-0").send_keys(Keys.TAB)
    assert status.text == "level 3, row 0, column 0: +0, on the path"

    assert browser.get_log("browser") == []


@pytest.mark.browser
def test_without_javascript_all_is_visible(browser, page: str, tmp_path: Path):
    from selenium.webdriver.common.by import By

    file = tmp_path / "plain.html"
    file.write_text(re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL))
    browser.get(file.as_uri())
    panels = browser.find_elements(By.CSS_SELECTOR, "section")
    assert len(panels) == 4 and all(panel.is_displayed() for panel in panels)
    pictures = browser.find_elements(By.CSS_SELECTOR, "section img, section svg")
    assert len(pictures) == 8 and all(each.is_displayed() for each in pictures)
    assert not browser.find_element(By.CSS_SELECTOR, "[role=tab]").is_displayed()
