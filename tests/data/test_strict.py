"""data/strict.py: what a person wrote wrong is told in one sentence."""

from pathlib import Path

import pytest

from data.strict import BadInput, Strict, read_json, read_yaml, suggestion


class Inner(Strict):
    learning_rate: float


class Outer(Strict):
    inner: Inner
    steps: int = 3


def test_a_known_mapping_becomes_a_model() -> None:
    assert Outer.parse({"inner": {"learning_rate": 0.1}}, "x.yaml").inner.learning_rate == 0.1


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (
            {"inner": {"learing_rate": 1.0, "learning_rate": 1.0}},
            'x.yaml: unknown key "inner.learing_rate"; did you mean "learning_rate"?',
        ),
        ({"inner": {}}, 'x.yaml: the key "inner.learning_rate" is missing.'),
        (
            {"inner": {"learning_rate": 1.0}, "steps": "many"},
            "x.yaml: \"steps\" is 'many': it should be a valid integer, unable to parse string as an integer.",
        ),
        (["a", "list"], "x.yaml: expected a mapping of keys to values, found list."),
        (
            {"inner": {"learning_rate": float("nan")}},
            'x.yaml: "inner.learning_rate" is nan: it should be a finite number.',
        ),
    ],
)
def test_a_wrong_one_is_told_with_its_place(raw: object, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        Outer.parse(raw, "x.yaml")
    assert str(caught.value) == told


def test_a_frozen_model_stays_as_it_is() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner(learning_rate=1.0).learning_rate = 2.0


@pytest.mark.parametrize(("words", "number"), [("1e-4", 1e-4), ("5E3", 5e3), ("1.5", 1.5), ("-2.", -2.0)])
def test_yaml_reads_a_number_as_a_number(tmp_path: Path, words: str, number: float) -> None:
    (tmp_path / "a.yaml").write_text(f"rate: {words}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"rate": number}


def test_yaml_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("rate: 1\nrate: 2\n")
    with pytest.raises(BadInput, match='the key "rate" stands twice'):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("content", "told"),
    [(b'{"a": 1', "line 1, column 8"), (b'{"a": "\xff"}', "not UTF-8 at byte 7"), (None, "no such file")],
)
def test_a_damaged_json_file_is_told_with_its_place(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=told):
        read_json(path)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_a_suggestion_is_near_or_none() -> None:
    assert suggestion("child_chta", ["child_chat", "other"]) == '; did you mean "child_chat"?'
    assert suggestion("zzz", ["child_chat"]) == ""
