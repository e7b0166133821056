"""Writes packages/onnx-graph/fixtures: tiny vision encoders in every form that exporters and optimizers give them.

Each model is a Hugging Face LLaVA (CLIP or SigLIP tower and projector) with random weights. Its graph comes from
torch.onnx or onnxruntime's transformer optimizer; what the patched graph has to compute comes from PyTorch's own attention
maps and activations, in float64, and is written as JSON.
"""

import contextlib
import io
import json
import math
import warnings
from pathlib import Path
from unittest import mock

import onnx
import onnx_ir
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxscript.rewriter.ort_fusions import _core as ort_fusions
from transformers import (
    AttentionInterface,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipVisionConfig,
)

warnings.filterwarnings("ignore")

FIXTURES = Path(__file__).resolve().parents[2] / "packages/onnx-graph/fixtures"
HEADS, SIDE, PATCH = 4, 16, 4
VISION = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=HEADS, image_size=SIDE, patch_size=PATCH)


def image(batch: int) -> torch.Tensor:
    """Pixels [batch, 3, 16, 16] that the tests compute by the same rule, exact in float32."""
    i = torch.arange(batch * 3 * SIDE * SIDE, dtype=torch.float64)
    return (((i * 7919) % 257) / 128 - 1).reshape(batch, 3, SIDE, SIDE)


def bmm_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    """Attention as CLIP wrote it until 2024: heads folded into the batch, queries scaled before the product."""
    batch, heads, tokens, channels = query.shape
    fold = lambda x: x.reshape(-1, tokens, channels)
    weights = torch.bmm(fold(query * scaling), fold(key).transpose(1, 2)).softmax(-1)
    out = torch.bmm(weights, fold(value)).view(-1, heads, tokens, channels)
    return out.transpose(1, 2).contiguous(), weights


AttentionInterface.register("bmm", bmm_attention)


def build(tower: str, layer: int | None) -> LlavaForConditionalGeneration:
    torch.manual_seed(5)
    vision = CLIPVisionConfig(**VISION, projection_dim=16) if tower == "clip" else SiglipVisionConfig(**VISION)
    text = LlamaConfig(vocab_size=32, hidden_size=12, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    strategy = "default" if tower == "clip" else "full"
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, vision_feature_layer=-1 if layer is None else layer, vision_feature_select_strategy=strategy, image_token_index=31)
    ).eval()
    for name, parameter in model.named_parameters():  # attention that differs between tokens, biases that are not zero
        torch.nn.init.normal_(parameter, std=0.4)
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1
    return model


class Whole(torch.nn.Module):
    """The way through LLaVA's own method, which splits the images and stacks them again."""

    def __init__(self, model):
        super().__init__()
        self.model = model.model

    def forward(self, pixel_values):
        return torch.stack(list(self.model.get_image_features(pixel_values).pooler_output))


class Resampler(torch.nn.Module):
    """A projector that cannot be told apart by patches: averaged neighbours ask all of them."""

    def __init__(self, model):
        super().__init__()
        self.tower, self.query, self.key = model.model.vision_tower, torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)

    def forward(self, pixel_values):
        patches = self.tower(pixel_values).last_hidden_state
        asking = patches.reshape(-1, 4, 4, 16).mean(2)
        return (self.query(asking) @ self.key(patches).transpose(1, 2)).softmax(-1) @ patches


class Encoder(torch.nn.Module):
    """What vision_encoder.onnx computes: image features from hidden state `layer`, or from the normalised last one (None).

    `drop` tokens come before the patches and are left out.
    """

    def __init__(self, model, layer: int | None, drop: int, all_layers: bool):
        super().__init__()
        self.tower, self.projector = model.model.vision_tower, model.model.multi_modal_projector
        self.layer, self.drop, self.all_layers = layer, drop, all_layers

    def forward(self, pixel_values):
        out = self.tower(pixel_values, output_hidden_states=True)
        features = out.last_hidden_state if self.layer is None else out.hidden_states[self.layer]
        features = self.projector(features[:, self.drop :] if self.drop else features)
        return (features, out.last_hidden_state) if self.all_layers else features


def expected(tower: str, layer: int | None, drop: int, batch: int) -> dict:
    """Every signal by its definition, from what PyTorch itself gives."""
    model = build(tower, layer).double()
    model.set_attn_implementation("eager")
    pixels, queries, keys = image(batch), [], []
    for block in model.model.vision_tower.encoder.layers:
        block.self_attn.q_proj.register_forward_hook(lambda module, args, out: queries.append(out))
        block.self_attn.k_proj.register_forward_hook(lambda module, args, out: keys.append(out))
    with torch.no_grad():
        out = model.model.vision_tower(pixels, output_attentions=True, output_hidden_states=True)
        layers = [signals(*values, drop) for values in zip(out.attentions, queries, keys)]
        features = out.last_hidden_state if layer is None else out.hidden_states[layer][:, drop:]
        image_features = model.model.multi_modal_projector(features)
        if layer is not None and drop < 2:  # what LLaVA itself makes of the image
            torch.testing.assert_close(image_features, torch.stack(list(model.model.get_image_features(pixels).pooler_output)))
    return {"layers": layers, "features": flat(features), "imageFeatures": flat(image_features)}


def signals(attention: torch.Tensor, q: torch.Tensor, k: torch.Tensor, drop: int) -> dict:
    """attention [B, H, S, S]; q, k [B, S, D]; `drop` tokens come before the patches."""
    mean = attention.double().mean(1)[:, drop:, drop:]  # [B, N, N]
    given, received = mean.mean(2), mean.mean(1)
    top = received.sort(1, descending=True).values[:, : math.ceil(received.shape[1] / 4)]
    values = {
        "attentionGiven": given,
        "attentionReceived": received,
        "keys": k[:, drop:],
        "attentionShare": top.sum(1) / received.sum(1),
    }
    if drop:
        values["classAttention"] = (q[:, :1] @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)[:, 0, drop:]
    return {name: flat(value) for name, value in values.items()}


def flat(x: torch.Tensor) -> list[float]:
    return [float(f"{value:.9g}") for value in x.flatten().tolist()]


def export(name: str, tower="clip", layer=-2, attention="eager", opset=17, dynamo=False, all_layers=False, drop=None, wrap=None):
    model = build(tower, layer)
    model.set_attn_implementation(attention)
    drop = int(tower == "clip") if drop is None else drop
    encoder = wrap(model).eval() if wrap else Encoder(model, layer, drop, all_layers)
    path = FIXTURES / f"{name}.onnx"
    names = ["image_features", "last_hidden_state"] if all_layers else ["image_features"]
    options = dict(opset_version=opset, input_names=["pixel_values"], output_names=names)
    if dynamo:
        batch = {"dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},), "dynamo": True, "external_data": False}
    else:
        batch = {"dynamic_axes": {key: {0: "batch"} for key in ["pixel_values", *names]}, "dynamo": False}
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(encoder, (image(2).float(),), str(path), **options, **batch)
    return path


def strip(path: Path) -> None:
    """Without what no program reads: stack traces and other metadata of the exporter."""
    model = onnx.load(path)
    for part in [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]:
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, path)


def optimize(source: Path, name: str) -> None:
    """onnxruntime's transformer optimizer: com.microsoft.Attention with packed weights, SkipLayerNormalization."""
    options = dict(model_type="clip", num_heads=HEADS, hidden_size=VISION["hidden_size"], opt_level=0)
    optimizer.optimize_model(str(source), **options).save_model_to_file(str(FIXTURES / f"{name}.onnx"))


def multi_head(source: Path, name: str, bias: bool) -> None:
    """onnxscript's fusions for onnxruntime, stopped at com.microsoft.MultiHeadAttention with or without its bias input."""
    disabled = {"fuse_attention"} | (set() if bias else {"fuse_mha_bias"})
    with contextlib.ExitStack() as stack:
        for fusion in disabled:
            stack.enter_context(mock.patch.object(ort_fusions, fusion, lambda model, **_: 0))
        model, _ = ort_fusions.optimize_for_ort(onnx_ir.load(source))
    onnx_ir.save(model, FIXTURES / f"{name}.onnx")


def saved_by_onnxruntime(source: Path, name: str) -> None:
    """onnxruntime's own optimisations, as its sessions save them: FusedMatMul, QuickGelu, BiasGelu."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(FIXTURES / f"{name}.onnx")
    onnxruntime.InferenceSession(source, options)


def main() -> None:
    for old in FIXTURES.glob("*.onnx*"):
        old.unlink()
    eager = export("clip-eager-17")
    export("clip-sdpa-14", attention="sdpa", opset=14)
    export("clip-bmm-11", attention="bmm", opset=11)
    dynamo = export("clip-eager-dynamo-18", opset=18, dynamo=True)
    export("clip-sdpa-dynamo-23", attention="sdpa", opset=23, dynamo=True)
    export("clip-all-layers-17", all_layers=True)
    export("clip-two-prefix-tokens-17", drop=2)
    export("clip-get-image-features-17", wrap=Whole)
    export("clip-class-token-kept-17", drop=0)
    export("siglip-resampler-17", tower="siglip", wrap=Resampler)
    export("siglip-several-layers-17", tower="siglip", layer=[-1, -2], wrap=Whole)
    siglip = export("siglip-eager-14", tower="siglip", opset=14)
    export("siglip-last-sdpa-17", tower="siglip", layer=-1, attention="sdpa")
    export("siglip-normalized-14", tower="siglip", layer=None, opset=14)
    normalized = export("siglip-normalized-17", tower="siglip", layer=None)
    export("siglip-sdpa-dynamo-23", tower="siglip", attention="sdpa", opset=23, dynamo=True)
    optimize(eager, "clip-ms-attention")
    optimize(siglip, "siglip-ms-attention")
    optimize(normalized, "siglip-normalized-ms-attention")
    multi_head(dynamo, "clip-ms-multi-head-attention", bias=True)
    multi_head(dynamo, "clip-ms-multi-head-attention-unbiased", bias=False)
    saved_by_onnxruntime(eager, "clip-saved-by-onnxruntime")
    for source in ["clip-eager-17", "clip-sdpa-dynamo-23", "clip-ms-attention"]:
        half = convert_float_to_float16(onnx.load(FIXTURES / f"{source}.onnx"), keep_io_types=True)
        onnx.save(half, FIXTURES / f"{source}-fp16.onnx")
    quantize_dynamic(eager, FIXTURES / "clip-int8.onnx", weight_type=QuantType.QUInt8)
    onnx.save(
        onnx.load(eager),
        FIXTURES / "clip-external.onnx",
        save_as_external_data=True,
        location="clip-external.onnx_data",
        size_threshold=1024,
    )
    for path in FIXTURES.glob("*.onnx"):
        if path.stem != "clip-external":
            strip(path)
    for name, *arguments in [
        ("clip", "clip", -2, 1),
        ("clip-two-prefix-tokens", "clip", -2, 2),
        ("siglip", "siglip", -2, 0),
        ("siglip-last", "siglip", -1, 0),
        ("siglip-normalized", "siglip", None, 0),
    ]:
        (FIXTURES / f"{name}.expected.json").write_text(json.dumps(expected(*arguments, batch=2)) + "\n")


if __name__ == "__main__":
    main()
