"""Whether a child says goodbye. In: what was said. Out: yes or no. Then the page lets go at once, without the model.

Only a message that is a farewell and nothing else counts: a sentence that merely holds one is for 灵伴 to answer.
"""

import re

_CALLED = r"(?:灵伴|mindpal)"
_ZH = "再见|再会|拜拜|拜|白白|退出|结束|不聊了|先不聊了|不想聊了|我走了|我先走了|我要走了|下次见|明天见|回头见|晚安|我要睡觉了|我去睡觉了|我困了先睡了|下线了|我下线了"
_EN = (
    "(?:good ?)?bye(?: ?bye)?(?: for now)?|see (?:you|ya)(?: (?:later|soon|tomorrow))?|good ?night|exit|quit"
    "|i(?:m| am|ll| will| have to| need to| got to)? (?:go|going|leave|leaving)(?: now)?|gotta go|that(?:s| is) all"
    "|i (?:want to |am going to )?stop(?: now)?"
)
# Possessive: 拜拜 is one 拜拜 and also two 拜, and a row of forty could be parted in a hundred million ways.
_FAREWELL = re.compile(
    rf"{_CALLED}?(?:(?:{_ZH})[了啦喽咯呀哦吧]?)++{_CALLED}?|(?:ok )?(?:{_EN})(?: ?{_CALLED})?", re.IGNORECASE
)


def is_farewell(said: str) -> bool:
    """Whether the whole message is a goodbye."""
    plain = re.sub(r"[^\w\s]|_", "", said.replace("’", "'")).strip()
    return bool(_FAREWELL.fullmatch(plain) or _FAREWELL.fullmatch(re.sub(r"\s+", "", plain)))
