"""Idefics3 and SmolVLM. Pixels are made as transformers.js makes them: enlarged behind the normalisation."""

import math

import torch
import transformers.models.idefics3.modeling_idefics3 as idefics3
import transformers.models.llama.modeling_llama as llama
import transformers.models.smolvlm.modeling_smolvlm as smolvlm
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from bundle import Maps, in_a_row, write_graph

SIDE, PATCH, FOLD, EDGE = 32, 4, 2, 64
TOKENS = (SIDE // PATCH // FOLD) ** 2


class Encoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model.model

    def forward(self, pixel_values, pixel_attention_mask):
        """get_image_features, with a reshape in place of an unfold that no opset has for open sizes."""
        pixels, mask = pixel_values.flatten(0, 1), pixel_attention_mask.flatten(0, 1)
        real = (pixels == 0).sum((1, 2, 3)) != pixels[0].numel()
        pixels, mask = pixels[real], mask[real]
        patches = mask.reshape(-1, mask.shape[1] // PATCH, PATCH, mask.shape[2] // PATCH, PATCH).sum((2, 4)) > 0
        vision = self.model.vision_model
        allowed = torch.where(patches.flatten(1), 0.0, torch.finfo(torch.float32).min)[:, None, None]
        hidden = vision.encoder(inputs_embeds=embed(vision.embeddings, pixels, patches), attention_mask=allowed)
        return self.model.connector(vision.post_layernorm(hidden.last_hidden_state))


def embed(embeddings, pixels, patches):
    """Idefics3VisionEmbeddings, with a choice in place of a write to chosen places, whose type the exporter loses."""
    side = embeddings.num_patches_per_side
    boundaries = torch.arange(1 / side, 1.0, 1 / side)
    buckets = []
    for count, length in ((patches[:, :, 0].sum(1), patches.shape[1]), (patches[:, 0].sum(1), patches.shape[2])):
        places = torch.clamp(torch.arange(length, dtype=torch.float32)[None] / count[:, None], max=1 - 1e-6)
        buckets.append((places[..., None] >= boundaries).sum(-1))
    ids = torch.where(patches, buckets[0][:, :, None] * side + buckets[1][:, None], 0).flatten(1)
    return embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2) + embeddings.position_embedding(ids)


class Family:
    IMAGE = PLACEHOLDER = "<image>"
    POSITION_AXES = 1
    TEXT_MODULE = llama
    # Nothing is resampled but to whole tiles: the longer side is EDGE already.
    PICTURES = [[(1, 64, 64)], [(2, 64, 32)], [(3, 64, 40), (4, 32, 64)], [(5, 50, 64)]]

    def __init__(self, name, config, model, module, places_are_tokens):
        self.NAME, self.config, self.model, self.module = name, config, model, module
        places = ["<global-img>", *(f"<row_{r}_col_{c}>" for r in (1, 2) for c in (1, 2))] if places_are_tokens else []
        self.SPECIAL = ["<image>", "<fake_token_around_image>", *places]

    def build(self, made):
        vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=PATCH)
        text = dict(
            model_type="llama", vocab_size=made.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, pad_token_id=0,
        )
        config = self.config(vision_config=vision, text_config=text, image_token_id=made.token_to_id("<image>"), scale_factor=FOLD, pad_token_id=0, tie_word_embeddings=False)
        model = self.model(config)
        model.set_attn_implementation("eager")
        return model

    def read(self, model, pixels, _images):
        """One encoder run a tile."""
        tiles, rows, columns = split(pixels)
        features, significance = [], []
        for tile in tiles:
            with Maps(self.module) as maps:
                mask = torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool)
                features.append(model.model.get_image_features(tile[None, None], mask).pooler_output[0])
            significance.append(folded(maps[-1].mean((0, 1, 2))))
        return in_a_row(features, significance, rows=rows, columns=columns)

    def written(self, image):
        return get_image_prompt_string(image.rows, image.columns, TOKENS, "<fake_token_around_image>", "<image>", "<global-img>")

    def language(self, model):
        return model.model.text_model

    def positions(self, ids, _image, _images):
        return torch.arange(len(ids))[None]

    def after_reduction(self, _positions, left):
        return torch.arange(len(left))[None]

    def write_encoder(self, model, folder):
        axes = {0: "batch_size", 1: "num_images", 3: "height", 4: "width"}
        write_graph(
            Encoder(model),
            (torch.rand(1, 2, 3, SIDE, SIDE), torch.ones(1, 2, SIDE, SIDE, dtype=torch.bool)),
            ["pixel_values", "pixel_attention_mask"],
            ["image_features"],
            {
                "pixel_values": axes,
                "pixel_attention_mask": {0: "batch_size", 1: "num_images", 2: "height", 3: "width"},
                "image_features": {0: "num_images"},
            },
            folder / "vision_encoder.onnx",
        )

    def files(self, model, _made):
        processor = "Idefics3" if self.NAME == "idefics3" else "SmolVLM"
        return {
            "config.json": model.config.to_dict(),
            "preprocessor_config.json": {
                "image_processor_type": f"{processor}ImageProcessor",
                "processor_class": f"{processor}Processor",
                **dict(do_convert_rgb=True, do_image_splitting=True, do_normalize=True, do_pad=True, do_rescale=True, do_resize=True),
                **dict(image_mean=[0.5] * 3, image_std=[0.5] * 3, rescale_factor=1 / 255, resample=1),
                "max_image_size": {"longest_edge": SIDE},
                "size": {"longest_edge": EDGE},
            },
            "processor_config.json": {"image_seq_len": TOKENS, "processor_class": f"{processor}Processor"},
        }


def split(pixels):
    """Tiles [3, SIDE, SIDE] row by row, then the whole picture."""
    height, width = pixels.shape[1:]
    ratio = width / height
    up = lambda side: math.ceil(side / SIDE) * SIDE
    canvas = (up(int(up(width) / ratio)), up(width)) if width >= height else (up(height), up(int(up(height) * ratio)))
    values = (pixels.float() / 255 - 0.5) / 0.5
    resized = lambda x, size: torch.nn.functional.interpolate(x[None], size, mode="bilinear", align_corners=False)[0]
    enlarged = resized(values, canvas)
    rows, columns = canvas[0] // SIDE, canvas[1] // SIDE
    tiles = [enlarged[:, r * SIDE : (r + 1) * SIDE, c * SIDE : (c + 1) * SIDE] for r in range(rows) for c in range(columns)]
    return [*tiles, resized(enlarged, (SIDE, SIDE))], rows, columns


def folded(received):
    """Sums over each token's square of patches."""
    side = SIDE // PATCH // FOLD
    return received.reshape(side, FOLD, side, FOLD).sum((1, 3)).flatten()


FAMILIES = [
    Family("idefics3", Idefics3Config, Idefics3ForConditionalGeneration, idefics3, places_are_tokens=False),
    Family("smolvlm", SmolVLMConfig, SmolVLMForConditionalGeneration, smolvlm, places_are_tokens=True),
]
