"""The verb `recipe`: tell a page which knobs there are, and check a recipe without a run.

In: `finetune/recipe.py`, or a recipe and `key=value` words. Out: JSON schema; or the recipe with every value as YAML.

    python -m finetune recipe schema --out data/recipe_schema.json   # after any change of a knob
    python -m finetune recipe check mindpal learning_rate=1e-4
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from data.runs import dump, write_whole
from finetune.recipe import Recipe, dump_recipe, read_recipe


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune recipe`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune recipe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tools = parser.add_subparsers(dest="tool", required=True)
    schema = tools.add_parser("schema", help="every knob as JSON schema")
    schema.add_argument("--out", type=Path, metavar="FILE", help="where to write it (default: standard output)")
    check = tools.add_parser("check", help="a recipe with every value, or what is wrong with it")
    check.add_argument("recipe", metavar="RECIPE", help="a name in finetune/recipes, or a file")
    check.add_argument("overrides", nargs="*", metavar="key=value", help="values laid over the recipe's")
    given = parser.parse_args(words)
    if given.tool == "check":
        print(dump_recipe(read_recipe(given.recipe, given.overrides)), end="")
    elif given.out:
        write_whole(given.out, schema_text())
    else:
        print(schema_text(), end="")
    return 0


def schema_text() -> str:
    """The knobs as a JSON schema (2020-12) with `group` and `unit` beside each: what data/recipe_schema.json holds."""
    return dump(Recipe.model_json_schema())
