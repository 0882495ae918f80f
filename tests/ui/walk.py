"""What a person does on the companion's page, for the tests that walk through it in a browser."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from ui.locales import Language, sentences

PIN = "2468"
# A chat is scrolled to its end: where it begins is told as if it were not.
BEGINS_BELOW_HEADER = """() => {
  const scrolls = [...document.querySelectorAll("[data-testid=stMain], [data-testid=stAppScrollToBottomContainer]")];
  const all = [...document.querySelectorAll("[data-testid=stMainBlockContainer] [class*=st-key-]")];
  const first = all.find((each) => each.checkVisibility());
  const top = first.getBoundingClientRect().top + scrolls.reduce((sum, each) => sum + each.scrollTop, 0);
  return top >= document.querySelector("[data-testid=stHeader]").getBoundingClientRect().bottom;
}"""

# Voices as a browser has them, for one that has none: they keep what they are given, and a sentence ends when the test says
# so. What speaks at first is a voice of a browser's maker, one that speaks Cantonese, and one that speaks English.
VOICES = """
window.said = [];
window.voices = [
  { name: "far", lang: "zh-CN", localService: false, default: true },
  { name: "Cantonese", lang: "zh-HK", localService: true },
  { name: "English", lang: "en-US", localService: true },
];
window.SpeechSynthesisUtterance = class { constructor(text) { this.text = text; } };
Object.defineProperty(window, "speechSynthesis", { value: Object.assign(new EventTarget(), {
  getVoices() { return window.voices; },
  speak(utterance) { window.said.push([utterance.text, utterance.voice.name]); window.current = utterance; },
  cancel() { window.said.push("cancel"); },
}) });
window.give = (name, lang) => {
  window.voices = [...window.voices, { name, lang, localService: true }];
  window.speechSynthesis.dispatchEvent(new Event("voiceschanged"));
};
"""

# The sockets of a page, so that a test can cut them.
SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...asked) { super(...asked); window.sockets.push(this); }
};
"""

TABS = 60
# A line around a button, or the button's colour around a field: Streamlit draws it around one of its parents.
SEEN = """each => {
  if (!each.matches("input, textarea")) {
    const line = getComputedStyle(each);
    return line.outlineStyle !== "none" && parseFloat(line.outlineWidth) >= 2;
  }
  for (let around = each, step = 0; around && step < 6; around = around.parentElement, step++) {
    const line = getComputedStyle(around);
    if (parseFloat(line.borderTopWidth) >= 1 && line.borderTopColor === "rgb(194, 80, 15)") return true;
  }
  return false;
}"""

FINGER = 40  # pixels that a button is high, at least
TOO_SMALL = """finger => [...document.querySelectorAll("[data-testid=stMain] button, [data-testid=stHeader] button")]
  .filter(each => each.checkVisibility() && each.getBoundingClientRect().height < finger)
  .map(each => each.outerHTML.slice(0, 160))"""


def daytime() -> str:
    """A time zone (for TZ) in which it is about noon now, so that a page under test is not in its quiet hours."""
    return f"NOON{datetime.now(UTC).hour - 12:+d}"


def first_run(page: Page, language: Language = "zh", nickname: str = "豆豆") -> None:
    """Give the guardian's consent, a PIN and a child's profile, up to the child's empty page."""
    words = sentences(language)
    page.get_by_label(words.guardian_name).fill("妈妈")
    page.get_by_label(words.first_run.emergency).fill("外婆 13800000000")
    page.get_by_label(words.pin.field, exact=True).fill(PIN)
    page.get_by_label(words.pin.repeat).fill(PIN)
    page.get_by_label(words.child_nickname).fill(nickname)
    page.get_by_text(words.consent).click()
    page.get_by_role("button", name=words.start, exact=True).click()
    expect(page.get_by_text(words.greeting.format(nickname=nickname))).to_be_visible()


def open_parents(page: Page, language: Language = "zh", pin: str = PIN) -> None:
    """Go to the parents' area and give the PIN."""
    words = sentences(language)
    page.get_by_role("button", name=words.for_parents).click()
    field = page.get_by_label(words.pin.field)
    expect(field).to_be_visible()
    at_rest(page)
    field.fill(pin)
    page.get_by_role("button", name=words.pin.open, exact=True).click()


def section(page: Page, name: str) -> None:
    """Open a section of the parents' area."""
    page.get_by_test_id("stMain").get_by_role("radio", name=name, exact=True).click()


def say(page: Page, text: str) -> None:
    """Type and send."""
    field = page.get_by_test_id("stChatInputTextArea")
    expect(field).to_be_enabled()
    field.fill(text)
    field.press("Enter")


def at_rest(page: Page) -> None:
    """Until the page is drawn whole: what is being drawn anew loses a press, or stands there twice."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def escape(page: Page) -> None:
    """Shut the dialog that is open by its key, which is lost on one that is still being drawn: a person presses again."""
    dialog = page.get_by_role("dialog")

    def is_shut() -> bool:
        page.keyboard.press("Escape")
        page.wait_for_timeout(500)  # it fades out
        return dialog.count() == 0

    wait_until(page, is_shut)


def tab_to(page: Page, target: Locator) -> None:
    """Go there by the Tab key, and see where one is."""
    expect(target).to_be_visible()
    for _ in range(TABS):
        page.keyboard.press("Tab")
        if target.evaluate("each => each === document.activeElement"):
            wait_until(page, lambda: bool(target.evaluate(SEEN)))  # it may fade in
            return
    raise AssertionError(f"{TABS} times Tab, and not at {target}")


def replies(page: Page) -> Locator:
    """灵伴's finished messages."""
    return page.locator("[class*='st-key-said-assistant']")


def scrolling(page: Page) -> Locator:
    """What of the page may scroll."""
    return page.locator("[data-testid=stMain], [data-testid=stAppScrollToBottomContainer]")


def wait_until(page: Page, is_so: Callable[[], bool]) -> None:
    """Wait, a minute at most, for something that is no part of the page."""
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until, is_so
        page.wait_for_timeout(100)


def accessible(page: Page, where: str) -> None:
    """axe finds nothing serious, once the page is drawn and stands still."""
    app = page.get_by_test_id("stApp")
    # On a busy machine a page may lose its server for a moment, and says so.
    expect(app).to_have_attribute("data-test-connection-state", "CONNECTED")
    at_rest(page)
    page.wait_for_timeout(500)
    found = Axe().run(page).response["violations"]
    serious = [
        (violation["id"], [node["html"][:160] for node in violation["nodes"][:3]])
        for violation in found
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == [], (where, serious)


def fits(page: Page, where: str) -> None:
    """On a phone: nothing scrolls sideways, what the page begins with lies below Streamlit's header, fingers hit."""
    widths = scrolling(page).evaluate_all("all => all.map(e => [e.scrollWidth, e.clientWidth])")
    assert widths, where
    assert all(inner <= outer for inner, outer in widths), where
    assert page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth"), where
    assert page.evaluate(BEGINS_BELOW_HEADER), where
    small = page.evaluate(TOO_SMALL, FINGER)
    assert small == [], (where, small)
