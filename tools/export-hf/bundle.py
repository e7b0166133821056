"""A small random model of a family as a bundle in the layout of transformers.js: tokenizer, graphs, and what PyTorch
answers without any cache, with all visual tokens and with fewer."""

import contextlib
import io
import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import onnx
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

warnings.filterwarnings("ignore")

FIXTURES = Path(__file__).resolve().parents[2] / "packages/lvlm/fixtures/families"
STEPS = 8  # tokens of an answer
MARGIN = 1e-3  # of every choice: what onnxruntime rounds otherwise changes none
RATIO = 0.25
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'IMAGE' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PROMPT = "<|im_start|>user\n{images}{text}<|im_end|>\n<|im_start|>assistant\n"


def picture(seed: int, width: int, height: int) -> torch.Tensor:
    """[3, height, width] bytes: `picture` of packages/lvlm/test/families.ts. Seeds from 100 on give one colour."""
    state, values = seed, []
    count = 3 if seed >= 100 else 3 * width * height
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append(state >> 24)
    pixels = torch.tensor(values, dtype=torch.uint8).reshape(-1, 3)
    return pixels.expand(width * height, 3).reshape(height, width, 3).permute(2, 0, 1)


def tokenizer(special: list[str]) -> Tokenizer:
    """Bytes, and two line ends as one token, as larger vocabularies have it."""
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary["ĊĊ"] = len(vocabulary)
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ċ", "Ċ")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in ["<|im_start|>", "<|im_end|>", *special]])
    return made


def scale(model: torch.nn.Module) -> None:
    """Weights that make attention differ between tokens, and answers between pictures."""
    for name, parameter in sorted(model.named_parameters()):
        torch.nn.init.normal_(parameter, std=0.35 if parameter.ndim > 1 else 0.1)
        if "norm" in name.lower() or ".ln_q" in name:
            parameter.data += 1 if name.endswith("weight") else 0


class Embedding(torch.nn.Module):
    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, input_ids):
        return self.table(input_ids)


class Cache:
    """What the layers call as their cache: the past in front of the new keys and values, each [B, heads, tokens, d]."""

    def __init__(self, past):
        self.past, self.present = past, [None] * len(past)

    def update(self, keys, values, layer, *_):
        self.present[layer] = tuple(torch.cat(pair, 2) for pair in zip(self.past[layer], (keys, values)))
        return self.present[layer]


class Decoder(torch.nn.Module):
    def __init__(self, text, head):
        super().__init__()
        self.text, self.head = text, head

    def forward(self, inputs_embeds, attention_mask, position_ids, *past):
        cache = Cache([past[2 * i : 2 * i + 2] for i in range(len(past) // 2)])
        new, total = inputs_embeds.shape[1], attention_mask.shape[1]
        index = torch.arange(total)
        # The dynamo exporter does not know how long a slice between symbolic ends is.
        queries = torch.arange(new) + (total - new) if WAY["dynamo"] else index[total - new :]
        allowed = (index[None] <= queries[:, None])[None, None] & attention_mask[:, None, None].bool()
        mask = torch.where(allowed, 0.0, torch.finfo(torch.float32).min)
        rotary = self.text.rotary_emb(inputs_embeds, position_ids)
        hidden = inputs_embeds
        for layer in self.text.layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=cache)
        return self.head(self.text.norm(hidden)), *[part for pair in cache.present for part in pair]


WAY = dict(opset_version=17, dynamo=False)  # how graphs are exported: routes.py changes it


def write_graph(module, arguments, inputs, outputs, axes, path: Path) -> None:
    options = dict(input_names=inputs, output_names=outputs, **WAY)
    if WAY["dynamo"]:
        shapes = [axes.get(name) for name in inputs]
        # What a module takes as *past is one argument.
        options.update(dynamic_shapes=(*shapes[:3], tuple(shapes[3:])) if len(shapes) > 3 else tuple(shapes), external_data=False)
    else:
        options.update(dynamic_axes=axes)
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(module.eval(), arguments, str(path), **options)
    graph = onnx.load(path)
    for node in graph.graph.node:
        node.doc_string = ""
    onnx.save(graph, path)


def write_language_model(folder: Path, table, text, head, position_axes: int) -> None:
    """The graphs `embed_tokens` and `decoder_model_merged`."""
    config = text.config
    names = [f"{i}.{part}" for i in range(config.num_hidden_layers) for part in ("key", "value")]
    write_graph(
        Embedding(table),
        (torch.zeros(1, 5, dtype=torch.int64),),
        ["input_ids"],
        ["inputs_embeds"],
        {"input_ids": {0: "batch_size", 1: "sequence_length"}, "inputs_embeds": {0: "batch_size", 1: "sequence_length"}},
        folder / "embed_tokens.onnx",
    )
    positions = torch.arange(3, 8).repeat(position_axes, 1, 1) if position_axes > 1 else torch.arange(3, 8)[None]
    size = config.hidden_size // config.num_attention_heads
    past = [torch.zeros(1, config.num_key_value_heads, 3, size) for _ in names]
    axes = {
        "inputs_embeds": {0: "batch_size", 1: "sequence_length"},
        "attention_mask": {0: "batch_size", 1: "total_sequence_length"},
        "position_ids": {1: "batch_size", 2: "sequence_length"} if position_axes > 1 else {0: "batch_size", 1: "sequence_length"},
        "logits": {0: "batch_size", 1: "sequence_length"},
    }
    for name in names:
        axes[f"past_key_values.{name}"] = {0: "batch_size", 2: "past_sequence_length"}
        axes[f"present.{name}"] = {0: "batch_size", 2: "total_sequence_length"}
    write_graph(
        Decoder(text, head),
        (torch.zeros(1, 5, config.hidden_size), torch.ones(1, 8, dtype=torch.int64), positions, *past),
        ["inputs_embeds", "attention_mask", "position_ids", *[f"past_key_values.{name}" for name in names]],
        ["logits", *[f"present.{name}" for name in names]],
        axes,
        folder / "decoder_model_merged.onnx",
    )


class Maps:
    """Attention maps [B, heads, queries, keys] of a modeling module's eager attention, in the order of its calls."""

    def __init__(self, module):
        self.module, self.eager, self.maps = module, module.eager_attention_forward, []

    def __enter__(self):
        def recording(*arguments, **options):
            out, weights = self.eager(*arguments, **options)
            self.maps.append(weights)
            return out, weights

        self.module.eager_attention_forward = recording
        return self.maps

    def __exit__(self, *_):
        self.module.eager_attention_forward = self.eager


def run(text, head, embeds, positions, module, cut=None, kept=None):
    """Logits behind the last token, and the map of the layer before `cut`; layers from `cut` on see the tokens `kept`."""
    rotary, hidden, layer_map = text.rotary_emb(embeds, positions), embeds, None
    for i, layer in enumerate(text.layers):
        if i == cut and kept is not None:
            hidden, rotary = hidden[:, kept], tuple(part[..., kept, :] for part in rotary)
        length = hidden.shape[1]
        mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
        with Maps(module) as maps:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary)
        layer_map = maps[0][0] if cut is not None and i == cut - 1 else layer_map
    return head(text.norm(hidden))[0, -1], layer_map


def answer(text, head, table, module, end, prompt, visual=(), cut=None):
    """
    Greedy tokens up to `end`, each from a run of everything before it.
    prompt: embeddings [1, S, D], positions [.., 1, S]. visual: places of visual tokens, of which FastV keeps the
    share RATIO before layer `cut`.
    """
    embeds, positions = prompt
    kept, tokens = None, []
    if cut is not None:
        _, layer_map = run(text, head, embeds, positions, module, cut)
        score = layer_map.mean(0)[-1, list(visual)]
        places = [list(visual)[i] for i in highest(score, budget(len(visual)))]
        kept = [i for i in range(embeds.shape[1]) if i not in visual or i in places]
    for _ in range(STEPS):
        logits, _ = run(text, head, embeds, positions, module, cut, kept)
        first, second = logits.topk(2).values
        assert first - second > MARGIN, f"a margin of {first - second}: take another seed"
        token = logits.argmax().item()
        if token == end:
            break
        tokens.append(token)
        embeds = torch.cat([embeds, table(torch.tensor([[token]]))], 1)
        positions = torch.cat([positions, positions.max() + torch.ones_like(positions[..., :1])], -1)
        kept = kept and [*kept, embeds.shape[1] - 1]
    return tokens


def budget(count: int) -> int:
    return max(1, int(count * RATIO + 1e-9))


def highest(score: torch.Tensor, count: int) -> list[int]:
    """Places of the highest, ascending."""
    order = score.sort(descending=True).values
    assert count == len(score) or order[count - 1] - order[count] > 1e-7 + 1e-4 * order[0], "scores too near: take another seed"
    return sorted(score.topk(count).indices.tolist())


def in_a_row(features, significance, **more) -> SimpleNamespace:
    """An image whose crops' tokens stand one after the other, each a visual token. [tokens, D] and [tokens] a crop."""
    ends = [0]
    for crop in features:
        ends.append(ends[-1] + len(crop))
    places = [list(range(*pair)) for pair in zip(ends, ends[1:])]
    counts = [len(crop) for crop in features]
    return SimpleNamespace(features=features, significance=significance, counts=counts, places=places, visual=list(range(ends[-1])), **more)


def write_json(folder: Path, name: str, value) -> None:
    (folder / name).write_text(json.dumps(value, indent=1) + "\n")
