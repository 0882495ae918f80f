"""The verb `recipe`: the file that pages read is what the recipe says, and a check tells the whole recipe."""

import json

import pytest
import yaml

from data.conversations import DATA_DIR
from data.strict import BadInput
from finetune.recipe import Recipe, read_recipe
from finetune.recipe_verb import main, schema_text


def test_the_pages_read_the_knobs_that_there_are() -> None:
    told = (DATA_DIR / "recipe_schema.json").read_text(encoding="utf-8")
    assert told == schema_text(), "run `python -m finetune recipe schema --out data/recipe_schema.json`"


def test_every_knob_has_its_group_and_its_sentence() -> None:
    knobs = json.loads(schema_text())["properties"]
    assert knobs.keys() == Recipe.model_fields.keys()
    for name, knob in knobs.items():
        assert knob["group"], name
        assert knob["description"].endswith("."), name
        assert isinstance(knob["unit"], str), name


def test_a_recipe_is_checked_without_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "mindpal", "learning_rate=1e-4"], {}) == 0
    told = capsys.readouterr().out
    assert Recipe.parse(yaml.safe_load(told), "") == read_recipe("mindpal", ["learning_rate=1e-4"])
    with pytest.raises(BadInput, match='did you mean "learning_rate"'):
        main(["check", "mindpal", "learing_rate=1"], {})
