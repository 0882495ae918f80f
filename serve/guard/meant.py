"""A word of two meanings as it is meant: the guard's classifier takes a child's can of coke for the drug.

In: a message. Out: the same, with `pepsi` for `coke` where the words beside it tell the drink: of `cola` the classifier has
its doubts, too. Every other word stays as it is, and is judged; and where one of them tells of a drug, `coke` stays, too.
"""

import re

from data.forms import Typed

_COKE = r"(?:coke|(?:coca[\s-]?)?cola)"
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
    rf"(?:cans?|bottles?|glass|glasses|cups?|sips?|lit(?:er|re)s?|six packs?) of {_SOME}(?:{_SORTS} )?{_COKE}s?",
    rf"{_SORTS} {_COKE}s?",
    rf"{_COKE}s? (?:zero|light|lite|floats?|bottles?|cans|machines?)",
    rf"(?:drink|drinks|drinking|drank|sip|sipped|sipping|spilled|spilt) {_SOME}{_COKE}s?",
    rf"(?:a|an|another|one) {_COKE}{_GOES_ON}",
    rf"{_COKE}s? {_JOINED} {_SOME}{_WITH}",
    rf"{_WITH} (?:{_JOINED}|in|into) {_SOME}{_COKE}s?",
    rf"(?:sugar|caffeine|calories|bubbles) (?:is |are )?(?:there )?in {_SOME}{_COKE}s?",
    rf"(?:two|three|four|2|3|4) {_COKE}s",
]
_IN_CHINESE = rf"(?:喝了?|[罐瓶杯听]|冰|无糖|零度)\s?{_COKE}s?\b"
_FOUND = re.compile(
    "|".join([rf"\b(?:{'|'.join(_DRINK)})\b".replace(" ", r"[\s-]{1,3}"), _IN_CHINESE]), re.IGNORECASE | re.ASCII
)
# What is done with a drug, what it is sold as, and what else is drunk or swallowed with a coke.
_DRUG = re.compile(
    r"\b(?:snort|sniff|smok|inhal|inject|drug|dealer|grams?\b|high\b|drunk|stoned|booze|alcohol|liquor|spirits\b|beer|wine"
    r"|whisk|vodka|rum\b|gin\b|tequila|brandy|pills?\b|weed|meth\b|crack\b|powder)|[酒药藥嗨吸毒粉烟煙]",
    re.IGNORECASE | re.ASCII,
)
_WORD = re.compile(rf"\b{_COKE}s?\b", re.IGNORECASE | re.ASCII)


def as_meant(typed: Typed) -> Typed:
    """What the classifier reads in the place of `typed`; mostly just that."""
    if _DRUG.search(typed.text):
        return typed
    text = _FOUND.sub(lambda found: _WORD.sub("pepsi", found[0]), typed.text)
    return typed if text == typed.text else Typed(text)
