"""Writes a LLaVA model as a bundle: the folder of ONNX files and configs that transformers.js and @foveate/lvlm read.

  python export.py checkpoint CHECKPOINT TOKENIZER OUT [--chat-template FILE]
      CHECKPOINT: folder of a Hugging Face LlavaForConditionalGeneration (config.json, model.safetensors; any float type).
      TOKENIZER: its tokenizer.json (Hugging Face `tokenizers`). In the bundle it puts the begin token in front by itself.
  python export.py random OUT [--image-size N] [--vision-width N] ... [--seed N]
      A model with random weights of the given shape, for tests and benchmarks.

The graphs are float32, with attention written out (MatMul, Softmax, MatMul). Every export is checked against torch before it is put in place.
"""

import argparse
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import jinja2
import onnx
import onnxruntime
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

OPSET = 18
TOLERANCE = 1e-4  # largest difference between torch and onnxruntime, on features and logits
IMAGE_MEAN, IMAGE_STD = 0.5, 0.25

# LLaVA-1.5's own template: "USER: <image>\nQUESTION ASSISTANT:". The begin token is the tokenizer's affair.
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


# ---- the three graphs ----


class VisionEncoder(torch.nn.Module):
    """pixel_values [B, 3, H, W] -> image_features [B, N, D]: tower up to the feature layer, CLS off, projector."""

    def __init__(self, model):
        super().__init__()
        self.embeddings = model.model.vision_tower.embeddings
        self.norm = model.model.vision_tower.pre_layrnorm
        layers = model.model.vision_tower.encoder.layers
        self.layers = layers[: len(layers) + 1 + model.config.vision_feature_layer]  # hidden_states[-2] is before the last layer
        self.projector = model.model.multi_modal_projector
        self.skip = 1 if model.config.vision_feature_select_strategy == "default" else 0

    def forward(self, pixel_values):
        hidden = self.norm(self.embeddings(pixel_values))
        for layer in self.layers:
            hidden = layer(hidden, None)
        return self.projector(hidden[:, self.skip :])


class Embedding(torch.nn.Module):
    """input_ids [B, S] -> inputs_embeds [B, S, D]"""

    def __init__(self, model):
        super().__init__()
        self.table = model.model.language_model.embed_tokens

    def forward(self, input_ids):
        return self.table(input_ids)


class GrowingCache:
    """What the decoder layers call as their cache: the past in front of the new keys and values, each [B, H, S, d]."""

    def __init__(self, past):
        self.past = past
        self.present = [None] * len(past)

    def update(self, keys, values, layer, *_):
        old_keys, old_values = self.past[layer]
        self.present[layer] = (torch.cat([old_keys, keys], 2), torch.cat([old_values, values], 2))
        return self.present[layer]


class Decoder(torch.nn.Module):
    """inputs_embeds [B, S, D] after P cached tokens -> logits [B, K, V] of the last K = num_logits_to_keep tokens (0: of all), and the cache."""

    def __init__(self, model):
        super().__init__()
        self.llama = model.model.language_model
        self.head = model.lm_head

    def forward(self, inputs_embeds, attention_mask, position_ids, num_logits_to_keep, past):
        cache = GrowingCache(past)
        new, total = inputs_embeds.shape[1], attention_mask.shape[1]
        index = torch.arange(total)
        causal = index[None, :] <= index[total - new :, None]  # [S, P + S]
        allowed = causal[None, None] & attention_mask[:, None, None, :].bool()  # [B, 1, S, P + S]
        mask = torch.where(allowed, 0.0, torch.finfo(torch.float32).min)
        rotary = self.llama.rotary_emb(inputs_embeds, position_ids=position_ids)
        hidden = inputs_embeds
        for layer in self.llama.layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=cache)
        start = torch.where(num_logits_to_keep > 0, new - num_logits_to_keep, 0).item()
        torch._check(start >= 0)
        torch._check(start < new)
        return self.head(self.llama.norm(hidden[:, start:])), cache.present


def write_graph(module, arguments, inputs, outputs, axes, path, external_data):
    """Exports `module`; `axes` names the dynamic axes of every input and output (transformers.js reads those names)."""
    batch, length, past = (torch.export.Dim(name) for name in ("batch_size", "sequence_length", "past_sequence_length"))
    dims = {"batch_size": batch, "sequence_length": length, "past_sequence_length": past, "total_sequence_length": torch.export.Dim.AUTO}
    flat = iter(inputs)

    def shapes(argument):
        if isinstance(argument, (list, tuple)):
            return type(argument)(shapes(part) for part in argument)
        return {axis: dims[name] for axis, name in axes[next(flat)].items()}

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), arguments, dynamo=True, opset_version=OPSET, verbose=False, input_names=inputs, output_names=outputs, dynamic_shapes=shapes(arguments)
        )
    model = program.model_proto
    graph = model.graph
    for thing in [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        thing.ClearField("metadata_props")  # source lines of the exporter
        thing.ClearField("doc_string")
    for value in [*graph.input, *graph.output]:
        for axis, name in axes[value.name].items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del graph.value_info[:]
    onnx.checker.check_model(model)
    onnx.save(model, path, save_as_external_data=external_data, location=path.name + "_data", size_threshold=1024)


def write_graphs(model, folder, external_data):
    vision, text = model.config.vision_config, model.config.text_config
    batch, length = {0: "batch_size"}, {0: "batch_size", 1: "sequence_length"}
    folder.mkdir()
    write_graph(
        VisionEncoder(model),
        (torch.zeros(2, 3, vision.image_size, vision.image_size),),
        ["pixel_values"], ["image_features"],
        {"pixel_values": batch, "image_features": batch},
        folder / "vision_encoder.onnx", external_data,
    )
    write_graph(
        Embedding(model),
        (torch.zeros(2, 7, dtype=torch.int64),),
        ["input_ids"], ["inputs_embeds"],
        {"input_ids": length, "inputs_embeds": length},
        folder / "embed_tokens.onnx", external_data,
    )
    new, past, heads, layers = 7, 5, text.num_key_value_heads, range(text.num_hidden_layers)
    pasts = [f"past_key_values.{i}.{part}" for i in layers for part in ("key", "value")]
    presents = [f"present.{i}.{part}" for i in layers for part in ("key", "value")]
    write_graph(
        Decoder(model),
        (
            torch.zeros(2, new, text.hidden_size),
            torch.ones(2, past + new, dtype=torch.int64),
            torch.arange(past, past + new).repeat(2, 1),
            torch.tensor(1),
            [(torch.zeros(2, heads, past, text.head_dim), torch.zeros(2, heads, past, text.head_dim)) for _ in layers],
        ),
        ["inputs_embeds", "attention_mask", "position_ids", "num_logits_to_keep", *pasts], ["logits", *presents],
        {
            "inputs_embeds": length,
            "attention_mask": {0: "batch_size", 1: "total_sequence_length"},
            "position_ids": length,
            "num_logits_to_keep": {},
            "logits": {0: "batch_size", 1: "num_logits"},
            **{name: {0: "batch_size", 2: "past_sequence_length"} for name in pasts},
            **{name: {0: "batch_size", 2: "total_sequence_length"} for name in presents},
        },
        folder / "decoder_model_merged.onnx", external_data,
    )


# ---- the files beside them ----


def write_configs(model, tokenizer, template, folder, external_data):
    vision, text = model.config.vision_config, model.config.text_config
    config = model.config.to_dict()
    config["_name_or_path"] = ""  # where it lay on the machine that exported it
    config["dtype"] = config["text_config"]["dtype"] = config["vision_config"]["dtype"] = "float32"
    config["image_token_index"] = model.config.image_token_id
    if external_data:
        config["transformers.js_config"] = {"use_external_data_format": True}
    token = tokenizer.id_to_token
    size = {"height": vision.image_size, "width": vision.image_size}
    files = {
        "config.json": config,
        "generation_config.json": {"bos_token_id": text.bos_token_id, "eos_token_id": text.eos_token_id, "pad_token_id": text.pad_token_id},
        "preprocessor_config.json": {
            "processor_class": "LlavaProcessor",
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": size,
            "resample": 3,  # bicubic
            "do_center_crop": False,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [IMAGE_MEAN] * 3,
            "image_std": [IMAGE_STD] * 3,
        },
        "processor_config.json": {
            "processor_class": "LlavaProcessor",
            "image_token": token(model.config.image_token_id),
            "patch_size": vision.patch_size,
            # What transformers.js and the Python library both read as N = (H / patch) * (W / patch); the graph has taken CLS off.
            "num_additional_image_tokens": 0,
            "vision_feature_select_strategy": "full",
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": token(text.bos_token_id),
            "eos_token": token(text.eos_token_id),
            "pad_token": token(text.pad_token_id),
            "clean_up_tokenization_spaces": False,
            "model_max_length": text.max_position_embeddings,
            "chat_template": template,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=False, default=str) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))


def add_begin_token(tokenizer, begin):
    """Lets the tokenizer put the begin token in front of every text, unless it does already."""
    if tokenizer.encode("a").ids[0] != begin:
        token = tokenizer.id_to_token(begin)
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{token} $A", special_tokens=[(token, begin)])


def render(template, question):
    """The chat template's text for one image and a question."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    return environment.from_string(template).render(messages=[message], add_generation_prompt=True)


def prompt_ids(model, tokenizer, template, question):
    """Token ids of a question with one image, its image token repeated for each visual token."""
    vision, text = model.config.vision_config, model.config.text_config
    ids = tokenizer.encode(render(template, question)).ids
    image = model.config.image_token_id
    if ids.count(text.bos_token_id) != 1 or ids[0] != text.bos_token_id or ids.count(image) != 1:
        raise SystemExit(f"A prompt must have one begin token ({text.bos_token_id}), in front, and one image token ({image}); it is {ids}.")
    where = ids.index(image)
    return ids[:where] + [image] * (vision.image_size // vision.patch_size) ** 2 + ids[where + 1 :]


# ---- the check ----


@torch.no_grad()
def check(model, tokenizer, template, folder, answer_tokens=6):
    """Compares onnxruntime with torch: features, logits of a prompt, and a greedy answer that goes through the cache."""
    text, vision = model.config.text_config, model.config.vision_config
    session = {name: onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("vision_encoder", "embed_tokens", "decoder_model_merged")}
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, vision.image_size, vision.image_size, generator=generator)
    ids = torch.tensor([prompt_ids(model, tokenizer, template, "Is there a red star?")])
    mask = torch.ones_like(ids)

    features = session["vision_encoder"].run(None, {"pixel_values": pixels.numpy()})[0]
    expected = torch.stack(list(model.model.get_image_features(pixels).pooler_output))
    embeds = torch.from_numpy(session["embed_tokens"].run(None, {"input_ids": ids.numpy()})[0])
    embeds[0, ids[0] == model.config.image_token_id] = torch.from_numpy(features[0])

    def decode(embeds, past, keep):
        start = past[0].shape[2]
        length = embeds.shape[1]
        feeds = {
            "inputs_embeds": embeds.numpy(),
            "attention_mask": torch.ones(1, start + length, dtype=torch.int64).numpy(),
            "position_ids": torch.arange(start, start + length)[None].numpy(),
            "num_logits_to_keep": torch.tensor(keep).numpy(),
            **{f"past_key_values.{i // 2}.{'value' if i % 2 else 'key'}": value for i, value in enumerate(past)},
        }
        logits, *present = session["decoder_model_merged"].run(None, feeds)
        return logits, present

    empty = [torch.zeros(1, text.num_key_value_heads, 0, text.head_dim).numpy()] * (2 * text.num_hidden_layers)
    whole, _ = decode(embeds, empty, 0)
    difference = {
        "features": float(abs(features - expected.numpy()).max()),
        "logits": float(abs(whole - model(input_ids=ids, pixel_values=pixels, attention_mask=mask).logits.numpy()).max()),
    }
    logits, past = decode(embeds, empty, 1)
    answer = []
    for _ in range(answer_tokens):
        answer.append(int(logits[0, -1].argmax()))
        step = torch.from_numpy(session["embed_tokens"].run(None, {"input_ids": torch.tensor([answer[-1:]]).numpy()})[0])
        logits, past = decode(step, past, 1)
    greedy = {"do_sample": False, "max_new_tokens": answer_tokens, "min_new_tokens": answer_tokens, "eos_token_id": None}
    expected = model.generate(input_ids=ids, pixel_values=pixels, attention_mask=mask, **greedy)[0, ids.shape[1] :].tolist()
    print(f"largest difference to torch: {difference}; greedy answer {answer}, torch {expected}")
    if max(difference.values()) > TOLERANCE or answer != expected:
        raise SystemExit("The exported graphs do not compute what the model computes.")


def export(model, tokenizer, template, out, external_data=False):
    """Writes the bundle beside `out`, checks it, and only then puts it in place of what was there."""
    if out.exists() and any(out.iterdir()) and not (out / "onnx").is_dir():
        raise SystemExit(f"{out} is no bundle: it is left as it is. Name an empty or new folder.")
    add_begin_token(tokenizer, model.config.text_config.bos_token_id)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        write_configs(model, tokenizer, template, folder, external_data)
        write_graphs(model, folder / "onnx", external_data)
        check(model, tokenizer, template, folder / "onnx")
        for path in sorted(folder.rglob("*.*")):
            print(f"{path.stat().st_size:>12,}  {path.relative_to(folder)}")
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)


# ---- models with random weights ----


def byte_tokenizer():
    """The smallest byte-level BPE: one token a byte, no merges, and the special tokens."""
    specials = ["<pad>", "<s>", "</s>", "<image>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(specials + alphabet)}, merges=[]))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def random_model(a, vocabulary):
    """A LLaVA of the given shape; the spread is wide, so that answers depend on the image."""
    torch.manual_seed(a.seed)
    vision = CLIPVisionConfig(
        hidden_size=a.vision_width, intermediate_size=a.vision_mlp, num_hidden_layers=a.vision_layers, num_attention_heads=a.vision_heads,
        image_size=a.image_size, patch_size=a.patch_size, projection_dim=a.vision_width,
    )
    text = LlamaConfig(
        vocab_size=max(vocabulary, a.vocabulary), hidden_size=a.text_width, intermediate_size=a.text_mlp, num_hidden_layers=a.text_layers,
        num_attention_heads=a.text_heads, num_key_value_heads=a.text_kv_heads, max_position_embeddings=a.context, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=3, image_seq_length=(a.image_size // a.patch_size) ** 2,
        vision_feature_layer=-2, vision_feature_select_strategy="default", tie_word_embeddings=True, attn_implementation="eager",
    )
    model = LlavaForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=a.spread * weight[0].numel() ** -0.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.1 * a.spread)
    return model.eval()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    checkpoint = modes.add_parser("checkpoint", help="export a trained model")
    checkpoint.add_argument("checkpoint", type=Path)
    checkpoint.add_argument("tokenizer", type=Path)
    checkpoint.add_argument("out", type=Path)
    checkpoint.add_argument("--chat-template", type=Path, help="a Jinja file; default: the template of LLaVA-1.5")
    random = modes.add_parser("random", help="export a model with random weights", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    random.add_argument("out", type=Path)
    sizes = {
        "image-size": 64, "patch-size": 8, "vision-width": 32, "vision-layers": 3, "vision-heads": 2, "vision-mlp": 64,
        "text-width": 32, "text-layers": 4, "text-heads": 4, "text-kv-heads": 2, "text-mlp": 64, "vocabulary": 260, "context": 1024, "seed": 0,
    }
    for name, default in sizes.items():
        random.add_argument(f"--{name}", type=int, default=default, help=" ")
    random.add_argument("--spread", type=float, default=1.0, help="standard deviation of the weights times sqrt(inputs)")
    for mode in (checkpoint, random):
        mode.add_argument("--external-data", action="store_true", help="weights in .onnx_data files beside the graphs")
    return parser.parse_args()


def main():
    a = arguments()
    if a.mode == "random":
        tokenizer = byte_tokenizer()
        return export(random_model(a, tokenizer.get_vocab_size()), tokenizer, LLAVA_TEMPLATE, a.out, a.external_data)
    model = LlavaForConditionalGeneration.from_pretrained(a.checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    template = a.chat_template.read_text() if a.chat_template else LLAVA_TEMPLATE
    export(model, Tokenizer.from_file(str(a.tokenizer)), template, a.out, a.external_data)


if __name__ == "__main__":
    main()
