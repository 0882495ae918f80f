"""A word of two meanings as it is meant: the guard's classifier takes a child's can of coke for the drug.

In: a message. Out: the same, with `cola` for `coke` where the words beside it tell the drink. Every other word stays as it
is, and is judged: nothing passes because it comes with a can of coke.
"""

import re

from data.forms import Typed

_SORTS = "(?:diet|cherry|vanilla|fizzy|cold|ice cold|iced|sugar free|caffeine free)"
# Neither ice nor candy, which are names of drugs, nor water, in which one is dissolved.
_WITH = (
    "(?:mentos|mints?|pepsi|sprite|fanta|lemonade|lemon|juice|milk|pizza|burgers?|fries|chips|popcorn|nuggets|hot dogs?"
    "|ice cream)"
)
_JOINED = "(?:and|or|with|vs|versus|n|&|plus)"
_SOME = "(?:(?:a|an|the|my|his|her|some|much|too much|more|another|one|two) )?"
# Behind "a coke" it ends or goes on so; "a coke dealer" is another thing.
_GOES_ON = (
    r"(?=\W*$|\W*[,.;:!?\n]| (?:and|or|with|for|from|at|after|before|today|yesterday|tomorrow|please|pls|because|when|if|but"
    r"|every|instead|too|now|later|yet)\b)"
)
_DRINK = [
    rf"(?:cans?|bottles?|glass|glasses|cups?|sips?|lit(?:er|re)s?|six packs?) of {_SOME}(?:{_SORTS} )?cokes?",
    rf"{_SORTS} cokes?",
    r"cokes? (?:zero|light|lite|floats?|bottles?|cans|machines?)",
    rf"(?:drink|drinks|drinking|drank|drunk|sip|sipped|sipping|spilled|spilt) {_SOME}cokes?",
    rf"(?:a|an|another|one) coke{_GOES_ON}",
    rf"cokes? {_JOINED} {_SOME}{_WITH}",
    rf"{_WITH} (?:{_JOINED}|in|into) {_SOME}cokes?",
    rf"(?:sugar|caffeine|calories|bubbles) (?:is |are )?(?:there )?in {_SOME}cokes?",
    r"(?:two|three|four|2|3|4) cokes",
]
_IN_CHINESE = r"(?:喝了?|[罐瓶杯听]|冰|无糖|零度)\s?cokes?\b"
_FOUND = re.compile(
    "|".join([rf"\b(?:{'|'.join(_DRINK)})\b".replace(" ", r"[\s-]{1,3}"), _IN_CHINESE]), re.IGNORECASE | re.ASCII
)
_COKE = re.compile(r"\bcoke(s?)\b", re.IGNORECASE | re.ASCII)


def as_meant(typed: Typed) -> Typed:
    """What the classifier reads in the place of `typed`; mostly just that."""
    text = _FOUND.sub(lambda found: _COKE.sub(r"cola\1", found[0]), typed.text)
    return typed if text == typed.text else Typed(text)
