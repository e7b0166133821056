/** Special tokens in a user's text are text, and nothing else changes. */
import { Tokenizer } from '@huggingface/tokenizers';
import { describe, expect, test } from 'vitest';
import { copyOfFixture, editJson, FIXTURE } from '../../test/bundles.js';
import { PromptError } from '../index.js';
import { readBundle } from './bundle.js';
import type { Json } from './json.js';
import { LiteralTokens, type TokenizerFiles } from './literal-tokens.js';

interface Encoder {
  encode(text: string): { ids: number[] };
}
const encoderOf = ({ tokenizer, tokenizerConfig }: TokenizerFiles): Encoder =>
  new (Tokenizer as new (tokenizer: Json, config: Json) => Encoder)(tokenizer, tokenizerConfig);

const letters = Array.from('abcdefghijklmnopqrstuvwxyz<>/|_▁.');
/** As Llama's: words begin with ▁, begin and end are added tokens with neighbours that they strip. */
const added = [
  { id: 0, content: '<unk>', special: true, normalized: false },
  { id: 1, content: '<s>', special: true, normalized: false },
  { id: 2, content: '</s>', special: true, normalized: false, lstrip: true, rstrip: true },
  { id: 3, content: '<|im_end|>', special: true, normalized: false, rstrip: true },
  { id: 4, content: '<|im_end|>>', special: true, normalized: false },
  { id: 5, content: '<think>', special: false, normalized: false },
];
const words = [...added.map(({ content }) => content), ...letters];
const rest = {
  added_tokens: added,
  normalizer: null,
  decoder: null,
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
  },
};
const tokenizers: Record<string, TokenizerFiles> = {
  'BPE with a space before the first word': {
    tokenizer: {
      ...rest,
      pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
      model: {
        type: 'BPE',
        unk_token: '<unk>',
        vocab: Object.fromEntries(words.map((word, id) => [word, id])),
        merges: [],
      },
    },
    tokenizerConfig: { eos_token: '</s>' },
  },
  'a unigram model whose vocabulary has the special tokens too': {
    tokenizer: {
      ...rest,
      pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
      model: { type: 'Unigram', unk_id: 0, vocab: words.map((word) => [word, -1]) },
    },
    tokenizerConfig: { eos_token: '</s>' },
  },
};

describe.each(Object.keys(tokenizers))('%s', (name) => {
  const files = tokenizers[name];
  const tokens = new LiteralTokens(files);
  const original = encoderOf(files);
  const renamed = encoderOf(tokens.renamed(files));

  test("a template's tokens, and all that is text, keep their ids", () => {
    const parts = [...words, ' ', '  ', '\n', 'é', '漢', 'a word', '<|im', '</'];
    let state = 1;
    const next = (below: number): number => (state = (state * 48271) % 2147483647) % below;
    for (let run = 0; run < 2000; run++) {
      const text = Array.from({ length: next(9) }, () => parts[next(parts.length)]).join('');
      expect(renamed.encode(tokens.reveal(text)).ids, JSON.stringify(text)).toEqual(
        original.encode(text).ids,
      );
    }
  });

  test("a user's are spelled", () => {
    const user = 'a</s> <|im_end|>> b<s>';
    expect(tokens.occurIn(user)).toBe(true);
    expect(tokens.occurIn('a </ s> <think> im_end')).toBe(false);
    const { ids } = renamed.encode(tokens.reveal(`<s>${tokens.hide(user)}</s>`));
    expect(ids.slice(0, 2)).toEqual([1, 1]); // the begin token of the template and of the tokenizer
    expect(ids.at(-1)).toBe(2);
    const spelled = ids.slice(2, -1).map((id) => words[id]);
    expect(spelled.join('').replaceAll('▁', ' ').trim()).toBe(user);
    expect(spelled.every((word) => word.length === 1)).toBe(true);
  });
});

describe('a prompt', () => {
  test('spells special tokens; a raw prompt means them', async () => {
    const { text: codec } = await readBundle(FIXTURE, 'fp32');
    const byte = (char: string): number => codec.encode(char, 0)[1]; // the fixture has a token a byte, after the begin token
    const [begin, image] = [1, 3];
    const spelled = (text: string): number[] => Array.from(text, byte);
    expect(codec.encodeTurns([{ role: 'user', text: 'a</s>b<s>', images: 1 }])).toEqual([
      begin,
      ...spelled('USER: '),
      image,
      ...spelled('\na</s>b<s> ASSISTANT:'),
    ]);
    expect(codec.encode('a</s>b', 0)).toEqual([begin, byte('a'), 2, byte('b')]);
    expect(codec.encodeTurns([{ role: 'user', text: 'no token < / s >', images: 1 }])).toEqual(
      codec.encode(codec.render([{ role: 'user', text: 'no token < / s >', images: 1 }]), 1),
    );
    expect(() => codec.encodeTurns([{ role: 'user', text: '</s> and <image>', images: 1 }])).toThrow(
      PromptError,
    );
  });

  test("goes through what the template does to it, among the template's own tokens", async () => {
    const bundle = await copyOfFixture();
    const chat_template =
      '{{ bos_token }}<image>{{ messages[0].content[1].text | trim }}{{ eos_token }}{{ messages[0].content[1].text | trim | length > 1 }}';
    await editJson(bundle, 'tokenizer_config.json', { chat_template });
    const { text: codec } = await readBundle(bundle, 'fp32');
    const spelled = (text: string): number[] => codec.encode(text, 0).slice(1);
    expect(codec.encodeTurns([{ role: 'user', text: '  </s>\n', images: 1 }])).toEqual([
      1,
      3,
      ...['<', '/', 's', '>'].flatMap(spelled),
      2,
      ...spelled('true'),
    ]);
  });
});
