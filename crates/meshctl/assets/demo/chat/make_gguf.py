"""Writes a tiny language model with random weights (half a megabyte, a blink) for llama-server: make_gguf.py OUT.gguf

It talks nonsense, from a fixed seed, out of the words below, and never stops by itself: an answer is exactly as long
as `max_tokens`, so a test knows the usage to expect.
"""

import sys

import gguf
import numpy as np

WORDS = """the a mesh routes each model request to one replica with low queue depth and warm cache of tokens per second
while drift canary shadow ensemble latency budget holds for every tenant in region zone pod node graph edge rank score
vector feature batch stream prompt answer cost is fine now""".split()
WIDTH, LAYERS, HEADS = 64, 2, 2
CONTEXT = 2048

RANDOM = np.random.default_rng(7)


def main(path):
    writer = gguf.GGUFWriter(path, "llama")
    write_shape(writer)
    words_from = write_vocabulary(writer)
    write_weights(writer, words_from)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_shape(writer):
    writer.add_name("mesh-demo-chat")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(0)


def write_vocabulary(writer):
    """Three control tokens, all bytes (so that any prompt can be read), then words. Returns where the words start."""
    space = "\u2581"
    control, letters = ["<unk>", "<s>", "</s>"], [f"<0x{byte:02X}>" for byte in range(256)]
    words = [space] + [space + word for word in WORDS]
    kinds = gguf.TokenType
    writer.add_vocab_size(len(control + letters + words))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(control + letters + words)
    writer.add_token_scores([0.0] * len(control + letters) + [-float(rank + 1) for rank in range(len(words))])
    writer.add_token_types(
        [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL] + [kinds.BYTE] * len(letters) + [kinds.NORMAL] * len(words)
    )
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }} {% endfor %}")
    return len(control + letters) + 1


def write_weights(writer, words_from):
    vocabulary = words_from + len(WORDS)
    embedding, output = 8 * random(vocabulary, WIDTH), 6 * random(vocabulary, WIDTH)
    # Dimension 0 is a constant that no layer touches: it holds all but words down, so no answer ends early.
    embedding[:, 0] = 4.0
    output[:, 0] = 0.0
    output[:words_from, 0] = -30.0
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        write_layer(writer, f"blk.{layer}.")


def write_layer(writer, prefix):
    for norm in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"{prefix}{norm}.weight", np.ones(WIDTH, np.float32))
    for part in ("attn_q", "attn_k", "attn_v"):
        writer.add_tensor(f"{prefix}{part}.weight", random(WIDTH, WIDTH))
    for part in ("ffn_gate", "ffn_up"):
        writer.add_tensor(f"{prefix}{part}.weight", random(2 * WIDTH, WIDTH))
    for part, inputs in (("attn_output", WIDTH), ("ffn_down", 2 * WIDTH)):
        weights = random(WIDTH, inputs)
        weights[0] = 0.0
        writer.add_tensor(f"{prefix}{part}.weight", weights)


def random(*shape):
    return (RANDOM.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)


main(sys.argv[1])
