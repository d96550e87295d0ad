"""A BERT encoder as an ONNX graph, made of its configuration and its weights alone: neither torch nor transformers.

The graph takes ``input_ids`` and ``attention_mask``, int64 of shape (texts, tokens), and gives ``last_hidden_state``,
float32 of shape (texts, tokens, hidden size). Query, key and value are one product; the scale of the scores is folded
into the query's weights, and the embedding of the only token type into those of the positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import MissingExtraError, ParameterError
from featuremill.transforms.onnx_graph import onnx_module

__all__ = ["HIDDEN", "IDS", "MASK", "bert_graph", "check_bert", "read_weights"]

Weights = Mapping[str, npt.NDArray[np.float32]]

IDS, MASK, HIDDEN = "input_ids", "attention_mask", "last_hidden_state"

OPSET, IR_VERSION = 20, 9
"""The first opset with a Gelu."""

MASKED = -1e9
"""Added to the scores of what is no token: its share becomes exactly 0 in float32."""

ACTIVATIONS: Mapping[str, Mapping[str, str]] = {
    "gelu": {"op": "Gelu", "approximate": "none"},
    "gelu_new": {"op": "Gelu", "approximate": "tanh"},
    "gelu_pytorch_tanh": {"op": "Gelu", "approximate": "tanh"},
    "relu": {"op": "Relu"},
}

SIZES = (
    "hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "max_position_embeddings",
    "vocab_size",
)  # fmt: skip


def check_bert(config: Mapping[str, Any], where: str) -> None:
    """Refuse, by name, what is no BERT that :func:`bert_graph` can write.

    >>> check_bert({"model_type": "roberta", "architectures": ["RobertaModel"]}, "models/x")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: The model models/x is a 'roberta' (RobertaModel), and a graph is made \
of 'bert' only. Export it to ONNX and give the .onnx file, with its tokenizer.json beside it.
    """
    kind = config.get("model_type")
    if kind != "bert":
        named = ", ".join(map(str, config.get("architectures") or ()))
        raise ParameterError(
            f"The model {where} is a {kind!r}{f' ({named})' if named else ''}, and a graph is made of 'bert' only. "
            "Export it to ONNX and give the .onnx file, with its tokenizer.json beside it.",
            parameter="model", model=where, architecture=kind,
        )
    for key in SIZES:
        if type(config.get(key)) is not int or config[key] < 1:
            raise ParameterError(
                f"The model {where}: {key} in config.json is {config.get(key)!r}, expected a whole number above 0.",
                parameter="model", model=where,
            )
    positions = config.get("position_embedding_type") or "absolute"
    facts = {
        "hidden_act": (config.get("hidden_act", "gelu"), sorted(ACTIVATIONS)),
        "position_embedding_type": (positions, ["absolute"]),
    }
    for key, (value, known) in facts.items():
        if value not in known:
            raise ParameterError(
                f"The model {where}: {key} is {value!r}, expected one of {', '.join(known)}. Export it to ONNX.",
                parameter="model", model=where,
            )
    if config["hidden_size"] % config["num_attention_heads"]:
        raise ParameterError(
            f"The model {where}: a hidden_size of {config['hidden_size']} cannot be shared by "
            f"{config['num_attention_heads']} attention heads.",
            parameter="model", model=where,
        )


def read_weights(data: bytes, where: str) -> Weights:
    """The tensors of a safetensors file by name, as float32, without the prefix that a model around the encoder adds.

    Raises
    ------
    ParameterError
        When the bytes are no safetensors file, or hold numbers of a type that NumPy does not have.
    MissingExtraError
        When the package safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load
    except ImportError as error:
        raise MissingExtraError(
            'Models in safetensors need the package safetensors: pip install "featuremill[embeddings]".',
            package="safetensors", extra="embeddings",
        ) from error
    try:
        found = load(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ParameterError(
            f"The model {where}: model.safetensors cannot be read ({error}). Copy it again, or save it as float32.",
            parameter="model", model=where,
        ) from error
    return {name.removeprefix("bert."): array.astype(np.float32, copy=False) for name, array in found.items()}


def bert_graph(config: Mapping[str, Any], weights: Weights, where: str) -> bytes:
    """The graph as the bytes of an ONNX file; equal models give equal bytes.

    Raises
    ------
    ParameterError
        When `config` is of another architecture, or a tensor is missing or of another shape than it says.
    MissingExtraError
        When the package onnx is not installed.
    """
    check_bert(config, where)
    onnx = onnx_module()
    # The numbers go into the model's own graph: onnx's helpers would copy them each time a part goes into a whole.
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="featuremill")
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    _Encoder(onnx, model.graph, config, weights, where).encode()
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Encoder:
    """The nodes and numbers of one graph, in the making."""

    def __init__(self, onnx: Any, graph: Any, config: Mapping[str, Any], weights: Weights, where: str) -> None:
        self._onnx = onnx
        self._graph = graph
        self._weights = weights
        self._where = where
        self._numbers: set[str] = set()
        self._layers: int = config["num_hidden_layers"]
        self._hidden: int = config["hidden_size"]
        self._inner: int = config["intermediate_size"]
        self._heads: int = config["num_attention_heads"]
        self._vocabulary: int = config["vocab_size"]
        self._positions: int = config["max_position_embeddings"]
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))
        self._activation = dict(ACTIVATIONS[config.get("hidden_act", "gelu")])

    def encode(self) -> None:
        """The whole graph, from the inputs to the output."""
        words = self._weight("embeddings.word_embeddings.weight", self._vocabulary, self._hidden)
        places = self._weight("embeddings.position_embeddings.weight", self._positions, self._hidden)
        types = self._weight("embeddings.token_type_embeddings.weight", None, self._hidden)
        zero = self._number("zero", np.array([0], np.int64))
        length = self._node("Shape", IDS, start=1, end=2)
        table = self._node("Slice", self._number("positions", places + types[0]), zero, length, zero)
        state = self._node("Add", self._node("Gather", self._number("words", words), IDS), table)
        state = self._norm("embeddings.LayerNorm", state)
        bias = self._bias()
        for layer in range(self._layers):
            state = self._layer(f"encoder.layer.{layer}.", state, bias)
        self._graph.node.append(self._onnx.helper.make_node("Identity", [state], [HIDDEN]))
        self._graph.name = "bert"
        tensor, kinds = self._onnx.helper.make_tensor_value_info, self._onnx.TensorProto
        self._graph.input.extend(tensor(name, kinds.INT64, ["texts", "tokens"]) for name in (IDS, MASK))
        self._graph.output.append(tensor(HIDDEN, kinds.FLOAT, ["texts", "tokens", self._hidden]))

    def _bias(self) -> str:
        """0 for tokens and :data:`MASKED` for what is none, shape (texts, 1, 1, tokens)."""
        mask = self._node("Cast", MASK, to=self._onnx.TensorProto.FLOAT)
        inverse = self._node("Sub", self._number("one", np.float32(1)), mask)
        bias = self._node("Mul", inverse, self._number("masked", np.float32(MASKED)))
        return self._node("Unsqueeze", bias, self._number("axes", np.array([1, 2], np.int64)))

    def _layer(self, at: str, state: str, bias: str) -> str:
        attended = self._linear(f"{at}attention.output.dense", self._attention(at, state, bias), self._hidden)
        state = self._norm(f"{at}attention.output.LayerNorm", self._node("Add", attended, state))
        wide = self._linear(f"{at}intermediate.dense", state, self._inner)
        attributes = dict(self._activation)
        wide = self._node(attributes.pop("op"), wide, **attributes)
        return self._norm(
            f"{at}output.LayerNorm", self._node("Add", self._linear(f"{at}output.dense", wide, self._hidden), state)
        )

    def _attention(self, at: str, state: str, bias: str) -> str:
        width = self._hidden // self._heads
        parts = []
        for name, factor in (("query", np.float32(1 / np.sqrt(width))), ("key", 1), ("value", 1)):
            weight = self._weight(f"{at}attention.self.{name}.weight", self._hidden, self._hidden)
            shift = self._weight(f"{at}attention.self.{name}.bias", self._hidden)
            parts.append((weight.T * factor, shift * factor))
        weights, shifts = (np.concatenate([p[i] for p in parts], axis=-1) for i in (0, 1))
        product = self._node("MatMul", state, self._number(f"{at}qkv.weight", weights))
        product = self._node("Add", product, self._number(f"{at}qkv.bias", shifts))
        apart = np.array([0, 0, 3, self._heads, width], np.int64)
        product = self._node("Reshape", product, self._number("apart", apart))
        stacked = self._node("Transpose", product, perm=[2, 0, 3, 1, 4])
        query, key, value = (
            self._node("Gather", stacked, self._number(f"part_{i}", np.int64(i)), axis=0) for i in range(3)
        )
        scores = self._node("MatMul", query, self._node("Transpose", key, perm=[0, 1, 3, 2]))
        shares = self._node("Softmax", self._node("Add", scores, bias), axis=-1)
        mixed = self._node("Transpose", self._node("MatMul", shares, value), perm=[0, 2, 1, 3])
        return self._node("Reshape", mixed, self._number("together", np.array([0, 0, self._hidden], np.int64)))

    def _linear(self, name: str, state: str, width: int) -> str:
        rows = self._inner if name.endswith("output.dense") and "attention" not in name else self._hidden
        weight = self._number(f"{name}.weight", self._weight(f"{name}.weight", width, rows).T)
        shift = self._number(f"{name}.bias", self._weight(f"{name}.bias", width))
        return self._node("Add", self._node("MatMul", state, weight), shift)

    def _norm(self, name: str, state: str) -> str:
        names = [f"{name}.{part}" for part in ("weight", "bias")]
        scale, shift = (self._number(each, self._weight(each, self._hidden)) for each in names)
        return self._node("LayerNormalization", state, scale, shift, axis=-1, epsilon=self._epsilon)

    def _weight(self, name: str, *shape: int | None) -> npt.NDArray[np.float32]:
        array = self._weights.get(name)
        if array is None:
            raise ParameterError(
                f"The model {self._where}: model.safetensors has no tensor {name!r}. Copy it again.",
                parameter="model", model=self._where, tensor=name,
            )
        if array.ndim != len(shape) or any(s not in (None, n) for s, n in zip(shape, array.shape, strict=True)):
            raise ParameterError(
                f"The model {self._where}: {name!r} has the shape {array.shape}, and config.json says "
                f"{tuple('any' if s is None else s for s in shape)}. The two files belong to different models.",
                parameter="model", model=self._where, tensor=name,
            )
        return array

    def _number(self, name: str, array: Any) -> str:
        if name not in self._numbers:
            self._numbers.add(name)
            values = np.asarray(array)
            kind = self._onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
            little = values.astype(values.dtype.newbyteorder("<"), copy=False)
            self._graph.initializer.add(name=name, data_type=kind, dims=values.shape, raw_data=little.tobytes())
        return name

    def _node(self, op: str, *inputs: str, **attributes: Any) -> str:
        output = f"{op.lower()}_{len(self._graph.node)}"
        self._graph.node.append(self._onnx.helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output
