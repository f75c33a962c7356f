"""llama.cpp's own server, for a tiny model with random weights that is made on the spot: the protocol and its limits.

    python -m tests.llama_cpp chat|embedding|rerank FOLDER PORT

A token is a character. The context is CONTEXT tokens, and one input of embeddings or rerank BATCH.
"""

import sys
from pathlib import Path
from typing import Any

CONTEXT, BATCH = 1024, 256
WIDTH, INNER, HEADS = 32, 64, 4
LETTERS = [chr(n) for n in range(33, 127)]
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def write_model(path: Path, kind: str) -> None:
    """Write a Llama of one layer, or a BERT for embeddings or rerank."""
    import gguf
    import numpy as np

    random, chats = np.random.default_rng(1), kind == "chat"
    model: Any = gguf.GGUFWriter(path, "llama" if chats else "bert")
    model.add_block_count(1)
    model.add_context_length(CONTEXT)
    model.add_embedding_length(WIDTH)
    model.add_feed_forward_length(INNER)
    model.add_head_count(HEADS)
    if chats:
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), "▁", *LETTERS]
        kinds = [2, 3, 3, *[6] * 256, *[1] * (1 + len(LETTERS))]
        model.add_tokenizer_model("llama")
        model.add_chat_template(TEMPLATE)
        model.add_head_count_kv(HEADS)
        model.add_layer_norm_rms_eps(1e-5)
        model.add_rope_dimension_count(WIDTH // HEADS)
        model.add_bos_token_id(1)
        model.add_eos_token_id(2)
        model.add_unk_token_id(0)
    else:
        tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"▁{letter}" for letter in LETTERS), *LETTERS]
        kinds = [3, 2, 3, 3, 3, *[1] * (2 * len(LETTERS))]
        model.add_tokenizer_model("bert")
        model.add_token_type_count(2)
        model.add_layer_norm_eps(1e-12)
        model.add_causal_attention(False)
        model.add_pooling_type(gguf.PoolingType.RANK if kind == "rerank" else gguf.PoolingType.MEAN)
        model.add_pad_token_id(0)
        model.add_unk_token_id(1)
        model.add_bos_token_id(2)
        model.add_eos_token_id(3)
        model.add_sep_token_id(3)
    model.add_token_list(tokens)
    model.add_token_types(kinds)
    model.add_token_scores([0.0] * len(tokens))
    model.add_vocab_size(len(tokens))

    def tensor(name: str, *shape: int) -> None:
        model.add_tensor(name, random.normal(0, 0.1, shape).astype(np.float32))

    def matrix(name: str, *shape: int) -> None:
        tensor(f"{name}.weight", *shape)
        if not chats:
            tensor(f"{name}.bias", shape[0])

    def norm(name: str) -> None:
        model.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
        if not chats:
            model.add_tensor(f"{name}.bias", np.zeros(WIDTH, np.float32))

    tensor("token_embd.weight", len(tokens), WIDTH)
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        matrix(f"blk.0.{part}", WIDTH, WIDTH)
    matrix("blk.0.ffn_up", INNER, WIDTH)
    matrix("blk.0.ffn_down", WIDTH, INNER)
    if chats:
        for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
            norm(name)
        tensor("output.weight", len(tokens), WIDTH)
        tensor("blk.0.ffn_gate.weight", INNER, WIDTH)
    else:
        for name in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
            norm(name)
        tensor("token_types.weight", 2, WIDTH)
        tensor("position_embd.weight", CONTEXT, WIDTH)
    if kind == "rerank":
        matrix("cls", WIDTH, WIDTH)
        matrix("cls.output", 1, WIDTH)
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


def main(kind: str, folder: str, port: str) -> None:
    """Make the model and serve it until the process is ended."""
    import xllamacpp

    path = Path(folder) / f"{kind}.gguf"
    write_model(path, kind)
    options = xllamacpp.CommonParams()
    options.model.path = str(path)
    options.n_ctx, options.n_batch, options.n_ubatch, options.n_parallel = CONTEXT, BATCH, BATCH, 1
    options.port, options.warmup, options.embedding = int(port), False, kind != "chat"
    if kind == "rerank":
        options.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    # Held for as long as it serves, which is in threads of its own.
    server = xllamacpp.Server(options)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
