"""The table of traditional characters is whole, changes no simplified text, and moves no sign."""

import unicodedata

from data.forms import plain_letters, visible
from data.traditional import SIMPLIFIED

HAN = [chr(code) for code in range(0x4E00, 0xA000)]
# The 3,755 commonest of GB 2312: its rows up to 55.
COMMON = [sign for sign in HAN if b"\xb0" <= sign.encode("gb2312", "ignore")[:1] <= b"\xd7"]


def test_every_pair_is_a_sign_for_a_sign() -> None:
    assert len(SIMPLIFIED) > 2500
    for traditional, simplified in SIMPLIFIED.items():
        assert len(traditional) == len(simplified) == 1
        assert simplified not in SIMPLIFIED
        # Else it would never be seen.
        assert unicodedata.normalize("NFKC", traditional) == traditional


def test_what_only_simplified_texts_have_is_reached() -> None:
    """By Big5, which holds what Taiwan and Hong Kong write, and knows nothing of the table."""
    assert len(COMMON) == 3755
    only = {sign for sign in COMMON if not sign.encode("big5", "ignore")}
    assert len(only) > 1200
    # 帳 is read as 账; the others have no other form.
    assert only - set(SIMPLIFIED.values()) == set("帐傈墒酞酶")


def test_what_both_have_is_reached() -> None:
    assert plain_letters("幾個廚師後來裏裡乾幹麵隻臺鬆捲穀醜鬥範鬱佈佔唸遊雲係儘衝舊聽") == (
        "几个厨师后来里里干干面只台松卷谷丑斗范郁布占念游云系尽冲旧听"
    )
    assert plain_letters("姊姊著急，妳的帳號和牠的啓説衆綫") == "姐姐着急，你的账号和它的启说众线"


def test_simplified_texts_stay() -> None:
    # 乾坤 is rare; 著 is written for every 着 in Taiwan.
    assert {sign for sign in COMMON if sign in SIMPLIFIED} == set("乾著")
    assert plain_letters("皇后里面只有干云，几斗谷子") == "皇后里面只有干云，几斗谷子"


def test_no_sign_moves() -> None:
    words = visible("Кіll мe，密碼是ᴀʙ🅰，Привет")
    assert plain_letters(words) == "Kill me，密码是abA，Привет"
