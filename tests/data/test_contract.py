"""data/contract.py: the contract's fingerprint, and a seal that any change breaks."""

import json
import re
from pathlib import Path

import pytest

from data.contract import CONTRACT_FILE, SEAL_FILE, Contract, main, open_sealed, read_contract, seal
from data.strict import BadInput, read_yaml


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder; the seal does not ask what the weights are."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    seal(tmp_path, read_contract(), {"recipe": "x"}, [3, 4], 4)
    return tmp_path


def changed(**values: object) -> dict[str, object]:
    raw = read_yaml(CONTRACT_FILE)
    assert isinstance(raw, dict)
    return {**raw, **values}


def test_the_shipped_contract_is_the_tutorials() -> None:
    contract = read_contract()
    assert (contract.base_model, contract.thinking) == ("Qwen/Qwen3-0.6B", False)
    assert (contract.sampling.temperature, contract.sampling.top_p) == (0.5, 0.95)


def test_the_fingerprint_changes_with_every_field() -> None:
    contract = read_contract()
    others = [
        contract.model_copy(update={"base_model": "a/b"}),
        contract.model_copy(update={"persona": contract.persona + " "}),
        contract.model_copy(update={"thinking": True}),
        contract.model_copy(update={"window": contract.window - 1}),
        *(
            contract.model_copy(update={"sampling": contract.sampling.model_copy(update={name: value + 1})})
            for name, value in contract.sampling.model_dump().items()
        ),
    ]
    assert len({contract.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1
    assert re.fullmatch(r"[0-9a-f]{64}", contract.fingerprint)


def test_the_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    raw = changed()
    assert Contract.parse(dict(reversed(raw.items())), "x").fingerprint == read_contract().fingerprint


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"window": 256}, "sampling.max_tokens"),
        ({"persona": "  "}, '"persona"'),
        ({"personna": "x"}, 'did you mean "persona"'),
        ({"thinking": "maybe"}, '"thinking"'),
    ],
)
def test_a_wrong_contract_is_told(values: dict[str, object], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        Contract.parse(changed(**values), "contract.yaml")


def test_an_untouched_folder_opens(folder: Path) -> None:
    opened = open_sealed(folder)
    assert opened.contract == read_contract()
    assert opened.provenance == {"recipe": "x"}
    generation = json.loads((folder / "generation_config.json").read_text())
    assert (generation["temperature"], generation["eos_token_id"], generation["pad_token_id"]) == (0.5, [3, 4], 4)


@pytest.mark.parametrize("name", ["model.safetensors", "chat_template.jinja", "generation_config.json"])
def test_a_changed_file_breaks_the_seal(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(BadInput, match=re.escape(name)):
        open_sealed(folder)


def test_a_file_that_is_gone_or_new_breaks_the_seal(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match=r"adapter_config\.json: the file was not there"):
        open_sealed(folder)
    (folder / "adapter_config.json").unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"model\.safetensors: the file is gone"):
        open_sealed(folder)


def test_a_contract_edited_inside_the_seal_breaks_it(folder: Path) -> None:
    text = (folder / SEAL_FILE).read_text(encoding="utf-8").replace('"temperature": 0.5', '"temperature": 1.5')
    (folder / SEAL_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="fingerprint"):
        open_sealed(folder)


def test_documents_may_be_written_later(folder: Path) -> None:
    (folder / "README.md").write_text("a model card")
    assert open_sealed(folder).fingerprint == read_contract().fingerprint


def test_a_folder_without_a_seal_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="make merge"):
        open_sealed(tmp_path)
    with pytest.raises(BadInput, match="no such model folder"):
        open_sealed(tmp_path / "nothing")


def test_the_command_line_prints_the_fingerprint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["contract", str(folder)])
    assert main() == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == read_contract().fingerprint
    (folder / "model.safetensors").write_bytes(b"other")
    assert main() == 2
