"""The verb `data`: the tools that keep the conversations good.

    python -m finetune data check [SET…]      find what is wrong with the sets, record by record
    python -m finetune data stats [SET…]      count them, and draw it
    python -m finetune data inspect SET       show each token with its loss mask
    python -m finetune data synthesize …      grow a set with a teacher model
    python -m finetune data add FILE          check a file and register it as a set
    python -m finetune data remove SET        take a set out again

`python -m finetune data TOOL --help` explains one.
"""

import importlib
from collections.abc import Mapping

from data.strict import BadInput, suggestion

TOOLS = {
    "check": "finetune.dataset.check",
    "stats": "finetune.dataset.stats",
    "inspect": "finetune.inspect",
    "synthesize": "finetune.dataset.synthesize",
    "add": "finetune.dataset.add",
    "remove": "finetune.dataset.remove",
}


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune data`. A tool is imported only when it is called."""
    tool, rest = (words[0] if words else "--help"), words[1:]
    if tool in ("-h", "--help"):
        print(__doc__)
        return 0
    if tool not in TOOLS:
        raise BadInput(
            f'python -m finetune data: no tool "{tool}"{suggestion(tool, list(TOOLS)) or "."} `--help` lists them.'
        )
    return int(importlib.import_module(TOOLS[tool]).main(rest, environment))
