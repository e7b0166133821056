"""LLaVA with SigLIP and Qwen2 (as LLaVA-interleave), and LLaVA-OneVision."""

from types import SimpleNamespace

import torch
import transformers.models.qwen2.modeling_qwen2 as qwen2
import transformers.models.siglip.modeling_siglip as siglip
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration
from transformers.models.llava_onevision.image_processing_llava_onevision import LlavaOnevisionImageProcessor

from bundle import Maps, in_a_row, write_graph

SIDE, PATCH = 32, 8
GRID = SIDE // PATCH


class Encoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model.model

    def forward(self, pixel_values):
        hidden = self.model.vision_tower(pixel_values, output_hidden_states=True).hidden_states[-1]
        return self.model.multi_modal_projector(hidden)


class Family:
    IMAGE = PLACEHOLDER = "<image>"
    SPECIAL = ["<image>"]
    POSITION_AXES = 1
    TEXT_MODULE = qwen2

    def vision(self):
        return dict(model_type="siglip_vision_model", hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=PATCH, vision_use_head=False)

    def text(self, made):
        return dict(
            model_type="qwen2", vocab_size=made.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None,
        )

    def written(self, image):
        return self.IMAGE * image.written

    def language(self, model):
        return model.model.language_model

    def positions(self, ids, _image, _images):
        return torch.arange(len(ids))[None]

    def after_reduction(self, _positions, left):
        return torch.arange(len(left))[None]

    def write_encoder(self, model, folder):
        axes = {"pixel_values": {0: "batch_size"}, "image_features": {0: "batch_size"}}
        write_graph(Encoder(model), (torch.rand(2, 3, SIDE, SIDE),), ["pixel_values"], ["image_features"], axes, folder / "vision_encoder.onnx")

    def preprocessor(self, kind):
        return {
            "image_processor_type": kind,
            "processor_class": "LlavaProcessor" if self.NAME == "llava" else "LlavaOnevisionProcessor",
            **dict(do_convert_rgb=True, do_normalize=True, do_rescale=True, do_resize=True, resample=3, rescale_factor=1 / 255),
            **dict(image_mean=[0.5] * 3, image_std=[0.5] * 3, size={"height": SIDE, "width": SIDE}),
        }


def encode(model, pixels):
    """Features [tokens, D] of one crop of bytes, and the attention that its tokens receive."""
    with Maps(siglip) as maps:
        features = Encoder(model)(((pixels.float() / 255 - 0.5) / 0.5)[None])[0]
    return features, maps[-1].mean((0, 1, 2))


class Llava(Family):
    NAME = "llava"
    PICTURES = [[(1, 32, 32)], [(2, 32, 32), (3, 32, 32)], [(4, 32, 32)], [(5, 32, 32), (6, 32, 32), (7, 32, 32)]]

    def build(self, made):
        config = LlavaConfig(vision_config=self.vision(), text_config=self.text(made), image_token_index=made.token_to_id("<image>"), vision_feature_layer=-1, vision_feature_select_strategy="full")
        return eager(LlavaForConditionalGeneration(config))

    def read(self, model, pixels, _images):
        features, score = encode(model, pixels)
        return in_a_row([features], [score], written=len(features))

    def files(self, model, _made):
        processor = {"processor_class": "LlavaProcessor", "patch_size": PATCH, "vision_feature_select_strategy": "full", "image_token": "<image>"}
        return {"config.json": model.config.to_dict(), "preprocessor_config.json": self.preprocessor("SiglipImageProcessor"), "processor_config.json": processor}


class LlavaOnevision(Family):
    NAME = "llava_onevision"
    PINPOINTS = [[SIDE * rows, SIDE * columns] for rows in range(1, 5) for columns in range(1, 5)]
    # Noise where nothing is resampled, one colour (seeds from 100 on) elsewhere: every library resamples it the same.
    PICTURES = [[(1, 32, 32)], [(2, 32, 32), (3, 32, 32)], [(104, 32, 64)], [(105, 128, 128)]]

    def build(self, made):
        config = LlavaOnevisionConfig(
            vision_config=self.vision(), text_config=self.text(made), image_token_index=made.token_to_id("<image>"), image_grid_pinpoints=self.PINPOINTS,
            vision_feature_select_strategy="full", vision_feature_layer=-1, vision_aspect_ratio="anyres_max_9",
        )
        return eager(LlavaOnevisionForConditionalGeneration(config))

    def read(self, model, pixels, images):
        height, width = pixels.shape[1:]
        processor = LlavaOnevisionImageProcessor(size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=self.PINPOINTS, image_mean=[0.5] * 3, image_std=[0.5] * 3)
        alone = images == 1
        crops = processor([[pixels] if alone else [pixels, pixels]], return_tensors="pt").pixel_values[0]
        sizes, count = torch.tensor([[height, width]]), torch.tensor([1 if alone else 2])
        with Maps(siglip) as maps:
            packed = model.model.get_image_features(crops[None], sizes, batch_num_images=count).pooler_output[0]
        scores = maps[-1].mean((1, 2))
        visual = (packed != model.model.image_newline).any(1).nonzero().flatten().tolist()
        return SimpleNamespace(
            counts=[GRID**2] * len(crops), features=[packed], significance=list(scores), written=len(packed), visual=visual,
            places=self.places(height, width, len(crops)) if alone else [list(range(GRID**2))],
        )

    def places(self, height, width, crops):
        """Of each crop's tokens, line by line in the picture; None where lines are resampled or shortened."""
        rows, columns = height // SIDE, width // SIDE
        if rows * columns + 1 != crops or rows * columns > 10:
            return None
        places = [list(range(GRID**2))]
        for crop in range(rows * columns):
            line, column = crop // columns * GRID, crop % columns * GRID
            places.append([GRID**2 + (line + y) * (columns * GRID + 1) + column + x for y in range(GRID) for x in range(GRID)])
        return places

    def files(self, model, _made):
        config = {**model.config.to_dict(), "image_newline": model.model.image_newline.tolist()}
        config["vision_config"].pop("vision_use_head", None)
        processor = {"processor_class": "LlavaOnevisionProcessor", "num_image_tokens": GRID**2, "vision_feature_select_strategy": "full", "image_token": "<image>"}
        preprocessor = {**self.preprocessor("LlavaOnevisionImageProcessor"), "image_grid_pinpoints": self.PINPOINTS, "do_pad": True}
        return {"config.json": config, "preprocessor_config.json": preprocessor, "processor_config.json": processor}


def eager(model):
    model.set_attn_implementation("eager")
    return model


FAMILIES = [Llava(), LlavaOnevision()]
