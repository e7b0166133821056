"""Qwen2-VL and Qwen2.5-VL. One picture a run of the encoder, as the runner feeds it."""

from types import SimpleNamespace

import torch
import transformers.models.qwen2_5_vl.modeling_qwen2_5_vl as qwen2_5_vl
import transformers.models.qwen2_vl.modeling_qwen2_vl as qwen2_vl
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from bundle import Maps, in_a_row, write_graph

PATCH, MERGE, FRAMES = 8, 2, 2
FACTOR = PATCH * MERGE
WINDOW = 32  # pixels: 2 x 2 tokens


class Encoder(torch.nn.Module):
    """The vision tower for one picture, its loops over sizes written as tensors."""

    def __init__(self, model, windows):
        super().__init__()
        self.visual, self.windows = model.model.visual, windows

    def forward(self, pixel_values, grid_thw):
        rows, columns = grid_thw[0, 1] // MERGE, grid_thw[0, 2] // MERGE
        place = torch.arange(pixel_values.shape[0])
        token, inner = place // MERGE**2, place % MERGE**2
        row, column = token // columns, token % columns
        positions = torch.stack([row * MERGE + inner // MERGE, column * MERGE + inner % MERGE], -1)
        hidden = self.visual.patch_embed(pixel_values)
        cos, sin = self.visual.rotary_pos_emb(hidden, positions)
        window = row // (WINDOW // FACTOR) * ((columns + 1) // (WINDOW // FACTOR)) + column // (WINDOW // FACTOR)
        order = torch.argsort(window * pixel_values.shape[0] + place)  # stable
        if self.windows:
            hidden, cos, sin, window = hidden[order], cos[order], sin[order], window[order]
        blocked = torch.where(window[:, None] == window[None], 0.0, torch.finfo(torch.float32).min)
        for i, block in enumerate(self.visual.blocks):
            full = not self.windows or i in self.visual.fullatt_block_indexes
            hidden = hidden + attend(block.attn, block.norm1(hidden), cos, sin, None if full else blocked)
            hidden = hidden + block.mlp(block.norm2(hidden))
        merged = self.visual.merger(hidden)
        return merged[torch.argsort(order[:: MERGE**2])] if self.windows else merged


def attend(attention, hidden, cos, sin, mask):
    """VisionAttention without its split into pictures. [P, D]"""
    q, k, v = attention.qkv(hidden).reshape(hidden.shape[0], 3, attention.num_heads, -1).permute(1, 0, 2, 3).unbind(0)
    q, k = qwen2_vl.apply_rotary_pos_emb_vision(q, k, cos, sin)
    scores = q.transpose(0, 1) @ k.permute(1, 2, 0) * attention.scaling
    probabilities = torch.softmax(scores if mask is None else scores + mask, -1)
    return attention.proj((probabilities @ v.transpose(0, 1)).transpose(0, 1).flatten(1))


class Family:
    IMAGE = "<|image_pad|>"
    PLACEHOLDER = "<|vision_start|><|image_pad|><|vision_end|>"
    SPECIAL = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>"]
    POSITION_AXES = 3
    PICTURES = [[(1, 64, 64)], [(2, 96, 48)], [(3, 48, 80), (4, 80, 64)], [(5, 32, 112)]]

    def __init__(self, name, config, model, module):
        self.NAME, self.config, self.model, self.TEXT_MODULE = name, config, model, module
        self.windows = name == "qwen2_5_vl"

    def build(self, made):
        shape = dict(patch_size=PATCH, spatial_merge_size=MERGE, temporal_patch_size=FRAMES, in_channels=3, depth=3, num_heads=2)
        if self.windows:
            vision = dict(shape, hidden_size=32, intermediate_size=48, out_hidden_size=32, window_size=WINDOW, fullatt_block_indexes=[2])
        else:
            vision = dict(shape, embed_dim=32, hidden_size=32, mlp_ratio=2)
        text = dict(
            vocab_size=made.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}, use_sliding_window=False,
        )
        tokens = {f"{kind}_token_id": made.token_to_id(f"<|{text}|>") for kind, text in (("image", "image_pad"), ("vision_start", "vision_start"), ("vision_end", "vision_end"))}
        model = self.model(self.config(vision_config=vision, text_config=text, tie_word_embeddings=False, **tokens))
        model.set_attn_implementation("eager")
        return model

    def read(self, model, pixels, _images):
        rows, columns = pixels.shape[1] // PATCH, pixels.shape[2] // PATCH
        grid = torch.tensor([[1, rows, columns]])
        with Maps(self.TEXT_MODULE) as maps:
            features = model.model.visual(patches(pixels), grid_thw=grid).pooler_output
        received = maps[-1].mean((0, 1, 2))
        if self.windows:
            index, _ = qwen2_5_vl.get_vision_window_index(grid, MERGE, WINDOW, PATCH)
            received = received.reshape(-1, MERGE**2)[torch.argsort(index)].flatten()
        torch.testing.assert_close(Encoder(model, self.windows)(patches(pixels), grid), features, rtol=1e-4, atol=1e-4)
        significance = received.reshape(-1, MERGE**2).sum(1)
        return in_a_row([features], [significance], grid=grid)

    def written(self, image):
        return self.PLACEHOLDER.replace(self.IMAGE, self.IMAGE * image.counts[0])

    def language(self, model):
        return model.model.language_model

    def positions(self, ids, image_token, images):
        """get_rope_index of the family."""
        types = torch.tensor([[int(token == image_token) for token in ids]])
        model = SimpleNamespace(config=SimpleNamespace(vision_config=SimpleNamespace(spatial_merge_size=MERGE, tokens_per_second=1)))
        kind = self.TEXT_MODULE.Qwen2_5_VLModel if self.windows else self.TEXT_MODULE.Qwen2VLModel
        model.get_vision_position_ids = lambda *a, **k: kind.get_vision_position_ids(model, *a, **k)
        grids = torch.cat([image.grid for image in images])
        return kind.get_rope_index(model, torch.tensor([ids]), types, image_grid_thw=grids)[0]

    def after_reduction(self, positions, left):
        return positions[..., left]

    def write_encoder(self, model, folder):
        grid = "image_grid_thw" if self.windows else "grid_thw"
        write_graph(
            Encoder(model, self.windows),
            (torch.rand(24, 3 * FRAMES * PATCH**2), torch.tensor([[1, 4, 6]])),
            ["pixel_values", grid],
            ["image_features"],
            {"pixel_values": {0: "num_patches"}, "image_features": {0: "num_image_tokens"}},
            folder / "vision_encoder.onnx",
        )

    def files(self, model, _made):
        config = model.config.to_dict()
        if not self.windows:  # published configurations are flat
            config = {**config, **config.pop("text_config"), "model_type": "qwen2_vl"}
        return {
            "config.json": config,
            "preprocessor_config.json": {
                "image_processor_type": "Qwen2VLImageProcessor",
                "processor_class": "Qwen2_5_VLProcessor" if self.windows else "Qwen2VLProcessor",
                **dict(do_convert_rgb=True, do_normalize=True, do_rescale=True, do_resize=True, resample=3, rescale_factor=1 / 255),
                **dict(image_mean=[0.5] * 3, image_std=[0.5] * 3, patch_size=PATCH, merge_size=MERGE, temporal_patch_size=FRAMES),
                **dict(min_pixels=4 * FACTOR**2, max_pixels=64 * FACTOR**2),
            },
        }


def patches(pixels):
    """[P, 3 * FRAMES * PATCH ** 2] as Qwen2VLImageProcessor lays them out."""
    values = ((pixels.float() / 255 - 0.5) / 0.5)[None].repeat(FRAMES, 1, 1, 1)
    rows, columns = pixels.shape[1] // PATCH, pixels.shape[2] // PATCH
    blocks = values.reshape(1, FRAMES, 3, rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH)
    return blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(rows * columns, -1)


FAMILIES = [
    Family("qwen2_vl", Qwen2VLConfig, Qwen2VLForConditionalGeneration, qwen2_vl),
    Family("qwen2_5_vl", Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, qwen2_5_vl),
]
