"""LLaVA with SigLIP and Qwen2 (as LLaVA-interleave), with CLIP and Llama (as LLaVA-1.5), LLaVA-NeXT, and LLaVA-OneVision."""

from types import SimpleNamespace

import torch
import transformers.models.clip.modeling_clip as clip
import transformers.models.llama.modeling_llama as llama
import transformers.models.qwen2.modeling_qwen2 as qwen2
import transformers.models.siglip.modeling_siglip as siglip
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.models.llava_next.image_processing_llava_next import LlavaNextImageProcessor
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.llava_onevision.image_processing_llava_onevision import LlavaOnevisionImageProcessor

from bundle import Maps, in_a_row, write_graph

SIDE, PATCH = 32, 8
GRID = SIDE // PATCH


class Encoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model.model

    def forward(self, pixel_values):
        config = self.model.config
        hidden = self.model.vision_tower(pixel_values, output_hidden_states=True).hidden_states[config.vision_feature_layer]
        # What "default" leaves out is the class token.
        return self.model.multi_modal_projector(hidden[:, 1:] if config.vision_feature_select_strategy == "default" else hidden)


class Family:
    IMAGE = PLACEHOLDER = "<image>"
    SPECIAL = ["<image>"]
    POSITION_AXES = 1
    TEXT_MODULE, TEXT = qwen2, "qwen2"

    def vision(self):
        return dict(model_type="siglip_vision_model", hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=PATCH, vision_use_head=False)

    def text(self, made):
        return dict(
            model_type=self.TEXT, vocab_size=made.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
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


class ClipFamily(Family):
    """A tower with a class token, of which neither the last layer nor that token is used; Llama's language model."""

    TEXT_MODULE, TEXT = llama, "llama"

    def vision(self):
        return dict(model_type="clip_vision_model", hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=PATCH, projection_dim=32)

    def preprocessor(self, kind):
        side = {"height": SIDE, "width": SIDE}
        clip_values = dict(image_mean=OPENAI_CLIP_MEAN, image_std=OPENAI_CLIP_STD, size={"shortest_edge": SIDE}, crop_size=side, do_center_crop=True)
        return {**super().preprocessor(kind), "processor_class": f"{type(self).__name__.removesuffix('Clip')}Processor", **clip_values}


def received(maps):
    """[B, tokens] the attention that a tower's tokens receive in the layer that makes the features, the class token left out."""
    return maps[-2][..., 1:, 1:].mean((1, 2))


class Llava(Family):
    NAME = "llava"
    PICTURES = [[(1, 32, 32)], [(2, 32, 32), (3, 32, 32)], [(4, 32, 32)], [(5, 32, 32), (6, 32, 32), (7, 32, 32)]]

    def build(self, made):
        config = LlavaConfig(vision_config=self.vision(), text_config=self.text(made), image_token_index=made.token_to_id("<image>"), vision_feature_layer=-1, vision_feature_select_strategy="full")
        return eager(LlavaForConditionalGeneration(config))

    def read(self, model, pixels, _images):
        with Maps(siglip) as maps:
            features = Encoder(model)(((pixels.float() / 255 - 0.5) / 0.5)[None])[0]
        return in_a_row([features], [maps[-1].mean((0, 1, 2))], written=len(features))

    def files(self, model, _made):
        processor = {"processor_class": "LlavaProcessor", "patch_size": PATCH, "vision_feature_select_strategy": "full", "image_token": "<image>"}
        return {"config.json": model.config.to_dict(), "preprocessor_config.json": self.preprocessor("SiglipImageProcessor"), "processor_config.json": processor}


class LlavaClip(ClipFamily):
    NAME = "llava_clip"
    PICTURES = Llava.PICTURES

    def build(self, made):
        config = LlavaConfig(vision_config=self.vision(), text_config=self.text(made), image_token_index=made.token_to_id("<image>"), vision_feature_layer=-2, vision_feature_select_strategy="default")
        return eager(LlavaForConditionalGeneration(config))

    def read(self, model, pixels, _images):
        mean, std = (torch.tensor(values)[:, None, None] for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
        with Maps(clip) as maps:
            features = Encoder(model)(((pixels.float() / 255 - mean) / std)[None])[0]
        return in_a_row([features], [received(maps)[0]], written=len(features))

    def files(self, model, _made):
        processor = {"processor_class": "LlavaProcessor", "patch_size": PATCH, "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default", "image_token": "<image>"}
        return {"config.json": model.config.to_dict(), "preprocessor_config.json": self.preprocessor("CLIPImageProcessor"), "processor_config.json": processor}


class LlavaNext(ClipFamily):
    NAME = "llava_next"
    PINPOINTS = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]  # as published: none of a single crop
    # In sizes that are padded, not enlarged. What is squeezed into a square as a whole is of one colour (seeds from 100 on).
    PICTURES = [[(1, 32, 32)], [(2, 32, 32), (103, 64, 64), (3, 32, 32)], [(104, 80, 32)], [(105, 32, 80)]]

    def build(self, made):
        config = LlavaNextConfig(
            vision_config=self.vision(), text_config=self.text(made), image_token_index=made.token_to_id("<image>"), image_grid_pinpoints=self.PINPOINTS,
            vision_feature_select_strategy="default", vision_feature_layer=-2, tie_word_embeddings=False,
        )
        return eager(LlavaNextForConditionalGeneration(config))

    def read(self, model, pixels, _images):
        sizes = torch.tensor([pixels.shape[1:]])
        processor = LlavaNextImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=self.PINPOINTS)
        crops = processor([pixels], return_tensors="pt").pixel_values[0]
        with Maps(clip) as maps:
            packed = model.model.get_image_features(crops[None], sizes).pooler_output[0]
        assert len(packed) == self.count(processor, *pixels.shape[1:])
        # The same packing, of the tokens' numbers: which token stands where, and which is padding.
        numbers = torch.arange(len(crops) * GRID**2).reshape(len(crops), GRID**2, 1).float()
        order, _ = model.model.pack_image_features([numbers], sizes, "default", image_newline=torch.tensor([-1.0]))
        order = order[0].flatten().long()
        places = [(order.div(GRID**2, rounding_mode="floor") == crop).nonzero().flatten() for crop in range(len(crops))]
        significance = [score[order[here] % GRID**2] for score, here in zip(received(maps), places)]
        visual = (order >= 0).nonzero().flatten().tolist()
        return SimpleNamespace(
            counts=[len(here) for here in places], features=[packed], significance=significance, written=len(packed), visual=visual,
            places=[here.tolist() for here in places],
        )

    def count(self, image_processor, height, width):
        """What the processor writes into the prompt."""
        processor = LlavaNextProcessor.__new__(LlavaNextProcessor)
        processor.image_processor, processor.patch_size, processor.num_additional_image_tokens = image_processor, PATCH, 1
        return processor._get_number_of_features(height, width, SIDE, SIDE) - 1

    def files(self, model, _made):
        config = {**model.config.to_dict(), "image_newline": model.model.image_newline.tolist()}
        processor = {"processor_class": "LlavaNextProcessor", "patch_size": PATCH, "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default", "image_token": "<image>"}
        preprocessor = {**self.preprocessor("LlavaNextImageProcessor"), "image_grid_pinpoints": self.PINPOINTS, "do_pad": True}
        return {"config.json": config, "preprocessor_config.json": preprocessor, "processor_config.json": processor}


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


FAMILIES = [Llava(), LlavaClip(), LlavaNext(), LlavaOnevision()]
