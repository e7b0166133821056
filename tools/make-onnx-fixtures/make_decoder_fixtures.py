"""Writes packages/onnx-graph/fixtures/decoders: one small random Llama in every form a decoder comes in, and what it computes.

Written out by torch.onnx, and with com.microsoft.GroupQueryAttention as onnxruntime-genai's model builder writes it. The expected values
come from `forward`, a Llama in float64 without any cache, in which a pruned token is one that layers >= K do not see; it is compared
with Hugging Face's own first.
"""

import contextlib
import io
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import LlamaConfig, LlamaForCausalLM

warnings.filterwarnings("ignore")

FIXTURES = Path(__file__).resolve().parents[2] / "packages/onnx-graph/fixtures/decoders"
LAYERS, HEADS, KV_HEADS, HEAD, WIDTH, VOCABULARY = 4, 4, 2, 16, 16, 20
PROMPT, STEPS = 14, 3  # tokens of the prompt, and of the decode steps behind it
VISUAL = [2, 3, 4, 5, 8, 9, 10]  # two images
KEEP = 3


def build() -> LlamaForCausalLM:
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, head_dim=HEAD, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():  # attention that differs between tokens
        torch.nn.init.normal_(parameter, std=0.3)
        if "norm" in name:
            parameter.data += 1
    return model


def embeddings() -> torch.Tensor:
    """inputs_embeds [1, PROMPT + STEPS, WIDTH] that the tests compute by the same rule, exact in float32."""
    i = torch.arange((PROMPT + STEPS) * WIDTH, dtype=torch.float64)
    return (((i * 7919) % 257) / 128 - 1).reshape(1, -1, WIDTH)


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()


def rotary_table(length: int) -> torch.Tensor:
    """Angles [length, HEAD / 2]."""
    return torch.arange(length, dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(0, HEAD, 2, dtype=torch.float64) / HEAD)


def rotate(x: torch.Tensor) -> torch.Tensor:
    """x [heads, tokens, HEAD], its halves turned against each other."""
    angle = rotary_table(x.shape[1])
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def forward(w: dict, x: torch.Tensor, cut: int = LAYERS, pruned: tuple = ()) -> tuple[torch.Tensor, list, torch.Tensor]:
    """Logits, attention maps [heads, tokens, tokens] and the hidden state that enters layer `cut`; layers >= cut do not see `pruned`."""
    x = x[0]
    tokens, maps, boundary = len(x), [], x
    for i in range(LAYERS):
        boundary = x if i == cut else boundary
        p = lambda name: w[f"model.layers.{i}.{name}.weight"]
        allowed = torch.ones(tokens, tokens, dtype=torch.bool).tril()
        if i >= cut:
            allowed[:, list(pruned)] = False
            allowed |= torch.eye(tokens, dtype=torch.bool)  # a pruned token sees itself: nobody looks at what comes of it
        h = norm(x, p("input_layernorm"))
        split = lambda name: (h @ p(f"self_attn.{name}").T).reshape(tokens, -1, HEAD).transpose(0, 1)
        q, k, v = rotate(split("q_proj")), rotate(split("k_proj")), split("v_proj")
        k, v = (y.repeat_interleave(HEADS // KV_HEADS, 0) for y in (k, v))
        attention = (q @ k.mT / HEAD**0.5).masked_fill(~allowed, -torch.inf).softmax(-1)
        maps.append(attention)
        x = x + (attention @ v).transpose(0, 1).reshape(tokens, -1) @ p("self_attn.o_proj").T
        h = norm(x, p("post_attention_layernorm"))
        x = x + (torch.nn.functional.silu(h @ p("mlp.gate_proj").T) * (h @ p("mlp.up_proj").T)) @ p("mlp.down_proj").T
    return norm(x, w["model.norm.weight"]) @ w["lm_head.weight"].T, maps, boundary


def expected(model: LlamaForCausalLM) -> dict:
    weights = {name: value.double() for name, value in model.state_dict().items()}
    every = embeddings()
    logits, maps, _ = forward(weights, every)
    torch.testing.assert_close(logits, build().double()(inputs_embeds=every).logits[0], rtol=1e-4, atol=1e-5)  # it rounds to float32 in places
    cuts = []
    for layer in range(1, LAYERS):
        attention = maps[layer - 1][:, :PROMPT, :PROMPT].mean(0)
        scores = {"last": attention[-1], "mean": attention[VISUAL[-1] + 1 :].mean(0)}
        cut = {"layer": layer, "hidden": flat(forward(weights, every, layer)[2][:PROMPT])}
        for rows, score in scores.items():
            top = sorted(sorted(VISUAL, key=lambda j: (-score[j].item(), j))[:KEEP])
            pruned = tuple(j for j in VISUAL if j not in top)
            cut[rows] = {"scores": flat(score), "kept": top, "logits": flat(forward(weights, every, layer, pruned)[0][PROMPT - 1 :])}
        cuts.append(cut)
    return {"visual": VISUAL, "keep": KEEP, "logits": flat(logits), "cuts": cuts}


def flat(x: torch.Tensor) -> list[float]:
    return [float(f"{value:.9g}") for value in x.flatten().tolist()]


class Cache:
    """What the layers call as their cache: the past in front of the new keys and values, each [B, KV_HEADS, tokens, HEAD]."""

    def __init__(self, past):
        self.past, self.present = past, [None] * len(past)

    def update(self, keys, values, layer, *_):
        self.present[layer] = tuple(torch.cat(pair, 2) for pair in zip(self.past[layer], (keys, values)))
        return self.present[layer]


class Decoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs_embeds, attention_mask, position_ids, past):
        cache, index, new, total = Cache(past), torch.arange(attention_mask.shape[1]), inputs_embeds.shape[1], attention_mask.shape[1]
        allowed = (index[None] <= index[total - new :, None])[None, None] & attention_mask[:, None, None].bool()
        mask = torch.where(allowed, 0.0, torch.finfo(torch.float32).min)
        rotary = self.model.model.rotary_emb(inputs_embeds, position_ids=position_ids)
        hidden = inputs_embeds
        for layer in self.model.model.layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=cache)
        return self.model.lm_head(self.model.model.norm(hidden)), cache.present


CACHE = [f"{i}.{part}" for i in range(LAYERS) for part in ("key", "value")]
INPUTS = ["inputs_embeds", "attention_mask", "position_ids"]


def export(model: LlamaForCausalLM) -> None:
    model.set_attn_implementation("eager")
    past = [tuple(torch.zeros(2, KV_HEADS, 5, HEAD) for _ in range(2)) for _ in range(LAYERS)]
    batch, length, cached = (torch.export.Dim(name) for name in ("batch_size", "sequence_length", "past_sequence_length"))
    shapes = ({0: batch, 1: length}, {0: batch, 1: torch.export.Dim.AUTO}, {0: batch, 1: length}, [({0: batch, 2: cached},) * 2] * LAYERS)
    arguments = (torch.zeros(2, 7, WIDTH), torch.ones(2, 12, dtype=torch.int64), torch.arange(5, 12).repeat(2, 1), past)
    names = dict(input_names=INPUTS + [f"past_key_values.{x}" for x in CACHE], output_names=["logits"] + [f"present.{x}" for x in CACHE])
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(Decoder(model), arguments, dynamo=True, opset_version=18, verbose=False, dynamic_shapes=shapes, **names)
    proto = program.model_proto
    for part in [proto, proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.initializer]:
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(proto, FIXTURES / "llama-eager.onnx")


def grouped(model: LlamaForCausalLM, name: str, positions: bool, packed: bool) -> None:
    """As onnxruntime-genai's builder writes it: rotation inside the operator, residuals added by SkipSimplifiedLayerNormalization."""
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    nodes, constants = [], {}

    def constant(key, value):
        constants[key] = numpy_helper.from_array(np.ascontiguousarray(value), key)
        return key

    def node(op, inputs, outputs, domain="", **attributes):
        nodes.append(helper.make_node(op, inputs, outputs, name=f"{op}/{outputs[0]}", domain=domain, **attributes))
        return outputs[0]

    def linear(x, key, value):
        return node("MatMul", [x, constant(key, value.T)], [f"{key}/out"])

    ms = "com.microsoft"
    angles = rotary_table(64).float().numpy()
    cos, sin = constant("cos_cache", np.cos(angles)), constant("sin_cache", np.sin(angles))
    total = node("ReduceSum", ["attention_mask", constant("one", np.array([1]))], ["mask_sum"], keepdims=0)
    last = node("Sub", [total, "one"], ["mask_last"])
    seqlens = node("Cast", [last], ["seqlens_k"], to=TensorProto.INT32)
    node("Shape", ["attention_mask"], ["mask_shape"])
    node("Gather", ["mask_shape", constant("axis", np.array(1))], ["mask_length"])
    length = node("Cast", ["mask_length"], ["total_sequence_length"], to=TensorProto.INT32)
    residual, added = "inputs_embeds", None

    def normalize(key):
        nonlocal residual
        scale = constant(key, weights[key])
        if added is None:
            return node("SimplifiedLayerNormalization", [residual, scale], [f"{key}/out"], axis=-1, epsilon=1e-5, stash_type=1)
        node("SkipSimplifiedLayerNormalization", [residual, added, scale], [f"{key}/out", "", "", f"{key}/sum"], ms, epsilon=1e-5)
        residual = f"{key}/sum"
        return f"{key}/out"

    for i in range(LAYERS):
        p = lambda key: (f"model.layers.{i}.{key}.weight", weights[f"model.layers.{i}.{key}.weight"])
        h = normalize(p("input_layernorm")[0])
        if packed:
            qkv = np.concatenate([p(f"self_attn.{x}_proj")[1] for x in "qkv"])
            operands = [linear(h, f"model.layers.{i}.qkv", qkv), "", ""]
        else:
            operands = [linear(h, *p(f"self_attn.{x}_proj")) for x in "qkv"]
        past, present = ([f"{prefix}.{i}.{part}" for part in ("key", "value")] for prefix in ("past_key_values", "present"))
        inputs = [*operands, *past, seqlens, length, cos, sin] + (["position_ids"] if positions else [])
        out = node("GroupQueryAttention", inputs, [f"attention.{i}", *present], ms, num_heads=HEADS, kv_num_heads=KV_HEADS, do_rotary=1, scale=HEAD**-0.5)
        added = linear(out, *p("self_attn.o_proj"))
        h = normalize(p("post_attention_layernorm")[0])
        gate, up = linear(h, *p("mlp.gate_proj")), linear(h, *p("mlp.up_proj"))
        silu = node("Mul", [gate, node("Sigmoid", [gate], [f"sigmoid.{i}"])], [f"silu.{i}"])
        added = linear(node("Mul", [silu, up], [f"gated.{i}"]), *p("mlp.down_proj"))
    node("MatMul", [normalize("model.norm.weight"), constant("lm_head", weights["lm_head.weight"].T)], ["logits"])

    info, F, I = helper.make_tensor_value_info, TensorProto.FLOAT, TensorProto.INT64
    inputs = [info("inputs_embeds", F, ["batch_size", "sequence_length", WIDTH]), info("attention_mask", I, ["batch_size", "total_sequence_length"])]
    if positions:
        inputs.append(info("position_ids", I, ["batch_size", "sequence_length"]))
    inputs += [info(f"past_key_values.{x}", F, ["batch_size", KV_HEADS, "past_sequence_length", HEAD]) for x in CACHE]
    outputs = [info("logits", F, ["batch_size", "sequence_length", VOCABULARY])]
    outputs += [info(f"present.{x}", F, ["batch_size", KV_HEADS, "total_sequence_length", HEAD]) for x in CACHE]
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, list(constants.values()))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(ms, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), FIXTURES / f"{name}.onnx")


def main() -> None:
    FIXTURES.mkdir(exist_ok=True)
    with torch.no_grad():
        (FIXTURES / "llama.expected.json").write_text(json.dumps(expected(build())) + "\n")
        grouped(build(), "llama-group-query", positions=False, packed=False)
        grouped(build(), "llama-group-query-positions", positions=True, packed=False)
        grouped(build(), "llama-group-query-packed", positions=False, packed=True)
    export(build())


if __name__ == "__main__":
    main()
