"""Writes packages/lvlm/fixtures/families: one small random model a family, and what PyTorch makes of it.

    python export_hf.py [FAMILY ...]
"""

import shutil
import sys

import torch
from transformers import PreTrainedTokenizerFast

import idefics3
import llava
import qwen2_vl
from bundle import FIXTURES, PROMPT, TEMPLATE, answer, budget, highest, picture, scale, tokenizer, write_json, write_language_model
from precisions import write_variants
from routes import write_routes

FAMILIES = {family.NAME: family for family in (*llava.FAMILIES, *idefics3.FAMILIES, *qwen2_vl.FAMILIES)}


def expand(family, prompt: str, images: list, made) -> tuple[list[int], list[list[int]]]:
    """Token ids of a prompt, and the places in it of each picture's image tokens."""
    parts = prompt.split(family.PLACEHOLDER)
    text = parts[0] + "".join(family.written(image) + rest for image, rest in zip(images, parts[1:]))
    ids = made.encode(text, add_special_tokens=False).ids
    rest = [i for i, token in enumerate(ids) if token == made.token_to_id(family.IMAGE)]
    places = []
    for image in images:
        count = sum(len(features) for features in image.features)
        places.append(rest[:count])
        rest = rest[count:]
    assert not rest
    return ids, places


def case(family, model, made, pictures, text):
    """What PyTorch says of one prompt."""
    images = [family.read(model, picture(*one), len(pictures)) for one in pictures]
    ids, places = expand(family, PROMPT.format(images=family.PLACEHOLDER * len(images), text=text), images, made)
    table = model.get_input_embeddings()
    parts = (family.language(model), model.lm_head, table, family.TEXT_MODULE, made.token_to_id("<|im_end|>"))
    embeds = table(torch.tensor([ids]))
    for here, image in zip(places, images):
        embeds[0, here] = torch.cat(image.features)
    positions = family.positions(ids, made.token_to_id(family.IMAGE), images)
    visual = [here[i] for here, image in zip(places, images) for i in image.visual]
    return {
        "pictures": pictures,
        "text": text,
        "ids": ids,
        "positions": positions.reshape(-1, len(ids)).tolist(),
        "counts": [image.counts for image in images],
        "tokens": answer(*parts, (embeds, positions)),
        **fopru(family, parts, (embeds, positions), images, places),
        "fastvTokens": answer(*parts, (embeds, positions), visual, cut=1),
    }


def fopru(family, parts, prompt, images, places):
    """What is kept of each crop, and the answer without the rest, newlines included; None where a family cannot."""
    if any(image.places is None for image in images):
        return {"significance": None, "kept": None, "fopruTokens": None}
    embeds, positions = prompt
    scores = [crop for image in images for crop in image.significance]
    kept = [highest(score, budget(len(score))) for score in scores]
    crops = [[here[i] for i in crop] for here, image in zip(places, images) for crop in image.places]
    staying = {crop[i] for crop, some in zip(crops, kept) for i in some}
    dropped = {i for here in places for i in here} - staying
    left = [i for i in range(embeds.shape[1]) if i not in dropped]
    return {
        "significance": [[float(f"{value:.6g}") for value in score.tolist()] for score in scores],
        "kept": kept,
        "fopruTokens": answer(*parts, (embeds[:, left], family.after_reduction(positions, left))),
    }


def cases(family, model, made):
    texts = ["What is this?", "How many?", "Where?", "Read the text."]
    return [case(family, model, made, pictures, text) for pictures, text in zip(family.PICTURES, texts)]


@torch.no_grad()
def write(family) -> None:
    made = tokenizer(family.SPECIAL)
    folder = FIXTURES / family.NAME
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "onnx").mkdir(parents=True)
    for seed in range(100):
        torch.manual_seed(seed)
        model = family.build(made).eval()
        scale(model)
        try:
            expected = cases(family, model, made)
            break
        except AssertionError:
            continue
    else:
        raise SystemExit(f"{family.NAME}: no seed gives margins")
    family.write_encoder(model, folder / "onnx")
    write_language_model(folder / "onnx", model.get_input_embeddings(), family.language(model), model.lm_head, family.POSITION_AXES)
    if family.NAME in ("llava", "qwen2_vl"):
        write_variants(folder / "onnx")
    if family.NAME == "llava":
        write_routes(family, model, folder / "routes")
    template = TEMPLATE.replace("IMAGE", family.PLACEHOLDER)
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", chat_template=template).save_pretrained(folder)
    for name, value in family.files(model, made).items():
        write_json(folder, name, value)
    if (jinja := folder / "chat_template.jinja").exists():  # as published folders have it, it is in tokenizer_config.json
        jinja.unlink()
    write_json(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": template})
    write_json(folder, "generation_config.json", {"eos_token_id": [made.token_to_id("<|im_end|>")]})
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    write_json(folder, "expected.json", {"seed": seed, "cases": expected})
    print(family.NAME, "seed", seed, [one["tokens"] for one in expected])


for name in sys.argv[1:] or FAMILIES:
    write(FAMILIES[name])
