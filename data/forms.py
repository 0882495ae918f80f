"""A text as the guard sees it: what is typed to go round a filter reads as what it means.

In: any text. Out: its `Forms`, or a `Typed` that makes them once for all who ask. The rules, and the classifier's file
format, are defined on them.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

# Only characters that stand in a rule: a whole table is a library, and every other character matches as it is.
_TRADITIONAL = (
    "殺傷歲愛媽爺們個沒嗎這裡裏親脫褲壞說話讓給還樓藥條輕離開結過學從師氣後為應該時間對動體麼無義遺書繩頸劃燒煩絕鬥強姦罵門電號碼訴誰許會錢殘褻毆"
    "內練鄰網發髮繼攝護頭腦醫識視頻見約車膠煙菸紅創買賣製彈槍盜賬帳騙種現實婦鎖飯餓關兩東聽長嚇驚覺難戀雙圖傳鏈鐵線飛鳥鴿貓細紙緊總續腳臉膚葉處蟲"
    "術裝襪計討訓記設試談請證變貝貼辦遠選邊郵針錄錯鏡閨闆隊陽隱雞靈頁頂預題願類顧養馬騷驗魚點倉備兒劇劑勸單問嘗噁惡國圍園圓報塊壓姊寧寫寶將尋帶幣"
    "幫幹廁廢廳悶態慮憑戰戲拋挾捨掃換搖摳撥撿擁擊擬擾攔敗斷於暈來樂樣樹橋機檢欄歡歷毀決沖渾準滅滾滿潰熱牆獎獨瑪畢畫盡監睏禮稱積窩筆簽紀納級絲綁經"
    "編緻聞聯聲脅臟臺蘭蠟衝規詐誇認課講讚豬貨資賤贏躍軍軟較轉農迴進適醜釣鑽館髒鬆麵黨"
)
_SIMPLIFIED = (
    "杀伤岁爱妈爷们个没吗这里里亲脱裤坏说话让给还楼药条轻离开结过学从师气后为应该时间对动体么无义遗书绳颈划烧烦绝斗强奸骂门电号码诉谁许会钱残亵殴"
    "内练邻网发发继摄护头脑医识视频见约车胶烟烟红创买卖制弹枪盗账账骗种现实妇锁饭饿关两东听长吓惊觉难恋双图传链铁线飞鸟鸽猫细纸紧总续脚脸肤叶处虫"
    "术装袜计讨训记设试谈请证变贝贴办远选边邮针录错镜闺板队阳隐鸡灵页顶预题愿类顾养马骚验鱼点仓备儿剧剂劝单问尝恶恶国围园圆报块压姐宁写宝将寻带币"
    "帮干厕废厅闷态虑凭战戏抛挟舍扫换摇抠拨捡拥击拟扰拦败断于晕来乐样树桥机检栏欢历毁决冲浑准灭滚满溃热墙奖独玛毕画尽监困礼称积窝笔签纪纳级丝绑经"
    "编致闻联声胁脏台兰蜡冲规诈夸认课讲赞猪货资贱赢跃军软较转农回进适丑钓钻馆脏松面党"
)
SIMPLIFY = str.maketrans(_TRADITIONAL, _SIMPLIFIED)
# Letters that look like Latin ones: small capitals, those with a stroke, and white ones in a black shape.
_AS_LATIN = str.maketrans(
    {
        **dict(
            zip(
                "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢɑɡıȷøđðłħŧƀɨʉØĐŁĦŦ",
                "abcdefghijklmnopqrstuvwyzagijoddlhtbiuodlht",
                strict=True,
            )
        ),
        **{chr(start + number): chr(97 + number) for start in (0x1F150, 0x1F170) for number in range(26)},
        # Fillers of Korean, which are letters that nobody sees.
        **dict.fromkeys("\u115f\u1160\u3164\uffa0"),
    }
)
# Cyrillic and Greek ones, capitals as they look; a word that is really Russian or Greek stays as it is.
_FOREIGN = str.maketrans(
    "АВЕЅІЈКМНОРСТУХԌԚԜҺӀавеѕіјкмнорстухԁԛԝһӏґпгΑΒΕΖΗΙΚΜΝΟΡΤΥΧαβγεηικμνορστυχωϲϳ",
    "abesijkmhopctyxgqwhlabesijkmhopctyxdqwhlrnrabezhikmnoptyxabyenikuvopstuxwcj",
)
_FOREIGN_SIGN = re.compile(r"[\u0370-\u03ff\u0400-\u052f]")
# Letters up to where the signs of Chinese begin.
_WORD = re.compile(r"(?:(?![\u2e80-\U0010ffff])\w)+")
# Spellings that go round a filter and are read as one word.
_HOMOPHONES = {
    "自鲨": "自杀",
    "紫砂": "自杀",
    "自沙": "自杀",
    "自sha": "自杀",
    "自s": "自杀",
    "轻身": "轻生",
    "亖": "死",
}
# Letters that a digit or sign stands for among letters: k1ll, pr0n, @ss.
_LEET = str.maketrans("013457@$!", "oieastasi")
_DISGUISED = re.compile(
    r"(?<![a-z0-9@$!])(?:[a-z0-9@$!]{0,20}[a-z][0-9@$!]{1,4}[a-z]|[0-9@$]{1,4}[a-z]{2})[a-z0-9@$!]{0,20}"
)
# ASCII, Chinese characters and their punctuation: in most messages there is nothing else to look at one by one.
_ALL_VISIBLE = re.compile(r"[\n\t\x20-\x7e\u2014\u2018-\u201d\u2026\u3001-\u3011\u4e00-\u9fff]*")
_SPREAD = re.compile(r"\b(?:[a-z] ){3,}[a-z]\b")
# A word in bits: `ki ll my se lf`.
_BITS = re.compile(r"\b(?:[a-z]{1,2} ){2,}[a-z]{1,2}\b")
_SHORT_WORDS = (
    " a i u r n k ab ah ai am an as at ay be by da do eh er ex go ha he hi hm if im in is it la ma me mr ms mu mx my na"
    " no of oh ok on or ow ox pa pe pi re sh so ta ti to tv uh um up us ur vs we wo ye yo "
)


@dataclass(frozen=True)
class Forms:
    """A text as the patterns see it: without anything between its characters, and as words."""

    squashed: str
    words: str

    def __add__(self, later: "Forms") -> "Forms":
        return Forms(self.squashed + later.squashed, f"{self.words} {later.words}".strip())


@dataclass(frozen=True)
class Typed:
    """A text as it was typed, with what is made of it: when it is first asked for, and once."""

    text: str

    @cached_property
    def legible(self) -> str:
        """As it is read: see `legible`."""
        return legible(self.text)

    @cached_property
    def forms(self) -> Forms:
        """As the patterns see it."""
        return forms(self.text)

    @cached_property
    def undisguised(self) -> Forms | None:
        """The same with the letters that digits and signs stand for; None where there is no such word."""
        plain = undisguised(self.text)
        return forms(plain) if plain else None


def forms(text: str) -> Forms:
    """`text` as it is `legible`, in simplified characters."""
    text = legible(text).translate(SIMPLIFY)
    words = re.sub(r"['’`]", "", text)
    words = " ".join(re.sub(r"[^\w]+|_", " ", words).split())
    words = _SPREAD.sub(lambda run: run.group().replace(" ", ""), words)
    squashed = re.sub(r"[^\w]+|_", "", text)
    for spelling, word in _HOMOPHONES.items():
        squashed = squashed.replace(spelling, word)
    return Forms(squashed, words)


def undisguised(text: str) -> str:
    """`text` with the letters that digits and signs stand for, and its words in one bit; empty where nothing was so."""
    raw = legible(text)
    plain = _BITS.sub(_joined, _DISGUISED.sub(lambda word: word.group().translate(_LEET), raw))
    return plain if plain != raw else ""


def legible(text: str) -> str:
    """`text` in compatibility form and lower case, in Latin letters where it looks so, without accents and without what
    cannot be seen: `bù xiǎng huó` is read as it sounds, `kіll` with a Cyrillic letter as it looks."""
    # Two Arabic phrases in a character each, of 18 and 8 letters: with them a line would be pages long.
    text = unicodedata.normalize("NFKC", text.replace("\ufdfa", " ").replace("\ufdfb", " "))
    if _ALL_VISIBLE.fullmatch(text):
        return text.lower()
    text = text.translate(_AS_LATIN)
    if _FOREIGN_SIGN.search(text):
        text = _WORD.sub(_as_it_looks, text)
    text = unicodedata.normalize("NFD", text.lower())
    # Cf: zero-width and direction marks; Mn: accents.
    return "".join(sign for sign in text if unicodedata.category(sign) not in ("Cf", "Mn", "Cc") or sign in "\n\t")


def _as_it_looks(word: re.Match[str]) -> str:
    """A word in Latin letters, if all of it looks so: with its accents apart, since ё looks like ë."""
    latin = unicodedata.normalize("NFD", word[0]).translate(_FOREIGN)
    return latin if all(sign.isascii() or unicodedata.category(sign) == "Mn" for sign in latin) else word[0]


def _joined(run: re.Match[str]) -> str:
    """The bits from the first that is no word of its own to the last, in one."""
    bits = run[0].split()
    odd = [number for number, bit in enumerate(bits) if f" {bit} " not in _SHORT_WORDS]
    if len(odd) < 2:
        return run[0]
    return " ".join([*bits[: odd[0]], "".join(bits[odd[0] : odd[-1] + 1]), *bits[odd[-1] + 1 :]])


NOTHING = Forms("", "")
