"""What a person does on the companion's page, for the tests that walk through it in a browser."""

from playwright.sync_api import Locator, Page, expect

from ui.locales import Language, sentences


def first_run(page: Page, language: Language = "zh", nickname: str = "豆豆") -> None:
    """Give the guardian's consent and a child's profile, up to the child's empty page."""
    words = sentences(language)
    page.get_by_label(words.guardian_name).fill("妈妈")
    page.get_by_label(words.child_nickname).fill(nickname)
    page.get_by_text(words.consent).click()
    page.get_by_role("button", name=words.start, exact=True).click()
    expect(page.get_by_text(words.greeting.format(nickname=nickname))).to_be_visible()


def say(page: Page, text: str) -> None:
    """Type and send."""
    field = page.get_by_test_id("stChatInputTextArea")
    expect(field).to_be_enabled()
    field.fill(text)
    field.press("Enter")


def replies(page: Page) -> Locator:
    """灵伴's finished messages."""
    return page.locator("[class*='st-key-said-assistant']")
