"""Writes what the image processors of transformers say of pictures of many sizes: a list of [height, width, ...] a
family, with rows and columns of tiles (Idefics3, SmolVLM) or of tokens (Qwen2-VL), or the number of tokens
(LLaVA-NeXT, LLaVA-OneVision). Their own functions are called; no picture is made.

    python counts.py ../../packages/lvlm/fixtures/families/counts.json
"""

import json
import random
import sys

import torch

from transformers import (
    Idefics3ImageProcessor,
    LlavaNextImageProcessor,
    LlavaOnevisionImageProcessor,
    Qwen2VLImageProcessor,
    SmolVLMImageProcessor,
)
from transformers.models.idefics3.image_processing_idefics3 import get_resize_output_image_size
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize


def sizes(edges):
    draw = random.Random(1)
    around = sorted({max(1, edge + more) for edge in edges for more in (-1, 0, 1)} | {1, 2, 3, 13, 14, 15, 500})
    grid = [(height, width) for height in around for width in around]
    return draw.sample(grid, min(len(grid), 300)) + [(draw.randint(1, 2500), draw.randint(1, 2500)) for _ in range(2000)]


def tiles(processor, edges):
    rows = []
    for height, width in sizes(edges):
        blank = torch.empty(1, 3, height, width, device="meta")
        resized = get_resize_output_image_size(blank, processor.size["longest_edge"])
        # The resizing itself is not needed: the sizes that it is asked for are.
        asked = []
        processor.resize = lambda image, size, resample=None: asked.append((size.height, size.width))
        processor.resize_for_vision_encoder(torch.empty(1, 3, *resized, device="meta"), processor.max_image_size["longest_edge"])
        del processor.resize
        canvas_height, canvas_width = asked[0]
        side = processor.max_image_size["longest_edge"]
        rows.append([height, width, canvas_height // side, canvas_width // side])
    return rows


def qwen(processor, edges):
    rows = []
    for height, width in sizes(edges):
        if max(height, width) > 200 * min(height, width):
            continue
        grid_height, grid_width = grid_of(processor, height, width)
        rows.append([height, width, grid_height // 2, grid_width // 2])
    return rows


def grid_of(processor, height, width):
    target_height, target_width = smart_resize(
        height, width, 28, processor.size["shortest_edge"], processor.size["longest_edge"]
    )
    assert processor.get_number_of_image_patches(height, width, {}) == target_height * target_width // 14**2
    return target_height // 14, target_width // 14


def next_(edges):
    processor = LlavaNextProcessor.__new__(LlavaNextProcessor)
    processor.image_processor = LlavaNextImageProcessor()
    processor.patch_size, processor.num_additional_image_tokens = 14, 0
    return [
        [height, width, processor._get_number_of_features(height, width, 336, 336)] for height, width in sizes(edges)
    ]


def onevision(edges):
    processor = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)
    processor.image_processor = LlavaOnevisionImageProcessor()
    processor.num_image_tokens = 27 * 27
    processor.vision_aspect_ratio = "anyres_max_9"
    return [
        [height, width, processor._get_number_of_features(height, width, 384, 384)] for height, width in sizes(edges)
    ]


def main(path):
    counts = {
        "idefics3": tiles(Idefics3ImageProcessor(), [364, 728, 1092, 1456]),
        "smolvlm": tiles(
            SmolVLMImageProcessor(size={"longest_edge": 2048}, max_image_size={"longest_edge": 512}),
            [512, 1024, 1536, 2048],
        ),
        "qwen2_vl": qwen(Qwen2VLImageProcessor(), [28 * n // 2 for n in range(1, 40)]),
        "llava_next": next_([336, 672, 1008]),
        "llava_onevision": onevision([384 * n for n in range(1, 7)]),
    }
    with open(path, "w") as file:
        lists = (f'"{family}": {json.dumps(rows, separators=(",", ":"))}' for family, rows in counts.items())
        file.write("{\n  " + ",\n  ".join(lists) + "\n}\n")
    print({family: len(rows) for family, rows in counts.items()})


main(sys.argv[1])
