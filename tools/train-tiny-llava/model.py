"""The architecture, a LlavaForConditionalGeneration in miniature, and the forward passes that training needs."""
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
import world
from make_tokenizer import SPECIAL

PATCHES = world.GRID ** 2
MEAN, STD = .5, .25


def make_model(vocabulary):
    vision = CLIPVisionConfig(hidden_size=128, intermediate_size=384, num_hidden_layers=5, num_attention_heads=4,
                              image_size=world.SIZE, patch_size=world.PATCH, projection_dim=128)
    text = LlamaConfig(vocab_size=vocabulary, hidden_size=160, intermediate_size=432, num_hidden_layers=6, num_attention_heads=5,
                       num_key_value_heads=5, max_position_embeddings=2048, pad_token_id=SPECIAL.index('<pad>'), bos_token_id=SPECIAL.index('<s>'),
                       eos_token_id=SPECIAL.index('</s>'), tie_word_embeddings=True, initializer_range=.05)
    return LlavaForConditionalGeneration(LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=SPECIAL.index('<image>'), vision_feature_layer=-2,
        vision_feature_select_strategy='default', image_seq_length=PATCHES, tie_word_embeddings=True))


def pixels(images):
    """uint8 images [B, 128, 128, 3] -> pixel_values [B, 3, 128, 128]."""
    return ((torch.as_tensor(images).permute(0, 3, 1, 2).float() / 255) - MEAN) / STD


def tower(vision, images, keep=None):
    """uint8 images [B, 128, 128, 3] -> hidden_states[-2] [B, 1 + n, 128] (CLS first) and the pooled CLS of the last layer [B, 128].

    `keep` [B, n]: the patches to look at, all by default. The patch convolution is written as the linear map it is,
    and of the last layer only the CLS row is computed: LLaVA uses nothing else of it."""
    e = vision.embeddings
    n = len(images)
    p = pixels(images).reshape(n, 3, world.GRID, world.PATCH, world.GRID, world.PATCH).permute(0, 2, 4, 1, 3, 5).reshape(n, PATCHES, -1)
    place = e.position_embedding.weight[1:].expand(n, -1, -1)
    if keep is not None:
        p, place = (torch.gather(x, 1, keep[..., None].expand(-1, -1, x.shape[-1])) for x in (p, place))
    h = F.linear(p, e.patch_embedding.weight.flatten(1)) + place
    cls = (e.class_embedding + e.position_embedding.weight[0]).expand(n, 1, -1)
    h = vision.pre_layrnorm(torch.cat([cls, h], 1))
    *layers, last = vision.encoder.layers
    for layer in layers: h = layer(h, None)
    a, z = last.self_attn, last.layer_norm1(h)
    heads = lambda x: x.unflatten(-1, (a.num_heads, a.head_dim)).transpose(1, 2)
    c = F.scaled_dot_product_attention(heads(a.q_proj(z[:, :1])), heads(a.k_proj(z)), heads(a.v_proj(z)))
    c = h[:, :1] + a.out_proj(c.transpose(1, 2).flatten(2))
    c = c + last.mlp(last.layer_norm2(c))
    return h, vision.post_layernorm(c[:, 0])


def load_tokenizer():
    return Tokenizer.from_file('tokenizer.json')
