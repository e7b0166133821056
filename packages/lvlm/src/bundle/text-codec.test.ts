/** What tokenizer.json and tokenizer_config.json say of padding and of the begin token. */
import { beforeAll, describe, expect, test } from 'vitest';
import { copyOfFixture, editJson, FIXTURE } from '../../test/bundles.js';
import { readBundle } from './bundle.js';
import type { Json } from './json.js';
import type { TextCodec } from './text-codec.js';

const PROMPT = 'What is this?';
const [PAD, BEGIN] = [0, 1];

let plain: TextCodec;
beforeAll(async () => {
  plain = (await readBundle(FIXTURE, 'fp32')).text;
});

async function codec(tokenizer: Json, config: Json = {}): Promise<TextCodec> {
  const bundle = await copyOfFixture();
  await editJson(bundle, 'tokenizer.json', tokenizer);
  await editJson(bundle, 'tokenizer_config.json', config);
  return (await readBundle(bundle, 'fp32')).text;
}

/** As tokenizer.json holds it where the tokenizer was saved after it had padded a batch. */
function padding(direction: string, strategy: unknown): Json {
  const pad = { pad_id: PAD, pad_type_id: 0, pad_token: '<pad>', pad_to_multiple_of: 8 };
  const truncation = { direction, max_length: 4, strategy: 'LongestFirst', stride: 0 };
  return { padding: { strategy, direction, ...pad }, truncation };
}

test.each([
  ['left', padding('Left', { Fixed: 64 })],
  ['left', padding('Left', 'BatchLongest')],
  ['right', padding('Right', { Fixed: 64 })],
])('padding on the %s is not for a single prompt: %j', async (padding_side, tokenizer) => {
  const text = await codec(tokenizer, { padding_side, pad_token: '<pad>', truncation_side: padding_side });
  expect(text.encodeTurns([{ role: 'user', text: PROMPT, images: 1 }])).toEqual(
    plain.encodeTurns([{ role: 'user', text: PROMPT, images: 1 }]),
  );
  expect(text.encode('a <image>', 1)).toEqual(plain.encode('a <image>', 1));
  expect(text.encodeImage('<image>', 1)).toEqual(plain.encodeImage('<image>', 1));
  expect(text.encodeTurns([{ role: 'user', text: 'a </s> b', images: 1 }])).toEqual(
    plain.encodeTurns([{ role: 'user', text: 'a </s> b', images: 1 }]),
  ); // by another tokenizer
});

describe('a begin token', () => {
  const own = (token: string, id: number): Json => ({
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
    },
  });
  const template =
    "{{ bos_token }}{% for part in messages[0].content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}";

  test.each([
    ['as a text', '<s>'],
    ['as an object', { content: '<s>', lstrip: false, normalized: false, rstrip: false, single_word: false }],
  ])('%s, written by the template too, stands there once', async (_, bos_token) => {
    const text = await codec({}, { bos_token, chat_template: template });
    expect(text.encodeTurns([{ role: 'user', text: 'ab', images: 1 }])).toEqual(plain.encode('<image>ab', 1));
    expect(
      text.encodeTurns([{ role: 'user', text: 'a</s>b', images: 1 }]).filter((id) => id === BEGIN),
    ).toHaveLength(1);
    expect(text.encodeTurns([{ role: 'user', text: 'ab', images: 1 }])[0]).toBe(BEGIN);
  });

  test('of its own stands before a prompt, once', async () => {
    const text = await codec(own('<pad>', PAD), { bos_token: '<pad>' });
    const [, ...rest] = plain.encode('ab', 0);
    expect(text.encode('ab', 0)).toEqual([PAD, ...rest]);
    expect(text.encode('<pad>ab', 0)).toEqual([PAD, ...rest]);
    expect(text.encode('<s>ab', 0)).toEqual([PAD, BEGIN, ...rest]); // here any other token
    expect(text.encodeImage('ab<image>', 1)).not.toContain(PAD);
  });

  test('that the tokenizer does not add stands where the template writes it', async () => {
    const text = await codec({ post_processor: null }, { chat_template: template });
    const [, ...rest] = plain.encode('<image>ab', 1);
    expect(text.encodeTurns([{ role: 'user', text: 'ab', images: 1 }])).toEqual([BEGIN, ...rest]);
    expect(text.encode('<image>ab', 1)).toEqual(rest);
  });
});
