"""An encoder's file says the same on every CPU."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models

from data.encoder import IDS, LOGITS, TOKENIZER, read_encoder

TOKENS = 64


def test_eight_bits_do_not_overflow(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.full((TOKENS, 1), 127, dtype=np.int8), "weights")
    nodes = [
        helper.make_node("Cast", [IDS], ["states"], to=TensorProto.UINT8),
        helper.make_node("MatMulInteger", ["states", "weights"], ["sum"]),
        helper.make_node("Cast", ["sum"], [LOGITS], to=TensorProto.FLOAT),
    ]
    ids = helper.make_tensor_value_info(IDS, TensorProto.INT64, [1, TOKENS])
    logits = helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [1, 1])
    graph = helper.make_graph(nodes, "largest", [ids], [logits], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    # Every place of the states holds the largest value that there is.
    vocabulary = {f"{number}": number for number in range(256)}
    told = Tokenizer(models.WordLevel(vocabulary, unk_token="255"))
    helper.set_model_props(model, {TOKENIZER: told.to_str()})
    path = tmp_path / "largest.onnx"
    path.write_bytes(model.SerializeToString())
    encoder = read_encoder(path)
    found = encoder.session.run([LOGITS], {IDS: np.full((1, TOKENS), 255, dtype=np.int64)})[0]
    assert found.item() == TOKENS * 255 * 127
