"""Train the byte-level BPE tokenizer on the world's own questions. python make_tokenizer.py OUT_FILE

Byte level, so that any text a user types can be encoded; every word of the world is one token."""
import sys
import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
import world

SPECIAL = ['<pad>', '<s>', '</s>', '<image>']
PREFIX, SUFFIX = 'USER: <image>\n', ' ASSISTANT:'    # around a question, as in LLaVA-1.5


def corpus():
    rng = np.random.default_rng(7)
    for seed in range(6000):
        scene = world.make_scene(seed)
        for q in world.questions(rng, scene, 8):
            text = f'USER: \n{q.text}{SUFFIX} {q.answer}'
            yield text
            yield text.lower()
    # Every digit alone, after a space and after another digit.
    for _ in range(200): yield ' '.join(str(n) for n in range(100))


if __name__ == '__main__':
    tokenizer = Tokenizer(models.BPE())
    # Words keep their leading space, digits stand alone (numbers are read digit by digit), everything else is one character.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r' ?[A-Za-z]+| ?[0-9]|[^\sA-Za-z0-9]|\s'), 'isolated'),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=1000, min_frequency=20, special_tokens=[AddedToken(s, special=True, normalized=False) for s in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    for word in [*world.COLOR_NAMES, *world.SHAPES, 'yes', 'no', 'left', 'right', 'above', 'below', 'top', 'bottom', 'none', *'ABCD', *'0123456789']:
        assert len(tokenizer.encode(' ' + word).ids) == 1, word
    tokenizer.save(sys.argv[1])
    print(tokenizer.get_vocab_size(), 'tokens;', tokenizer.encode(PREFIX + 'Which of these is in the picture?\nA. red star\nB. 472' + SUFFIX + ' 4721').tokens)
