import { Tensor } from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import {
  CachedSession,
  DECODERS,
  decoderFile,
  embeddings,
  integers,
  LAYERS,
  ones,
  PROMPT,
  VOCABULARY,
  WIDTH,
} from '../fixtures/decoders/run.js';
import { difference } from '../fixtures/run.js';
import { readModel } from './files.js';
import { biasDecoder, OnnxStructureError } from './index.js';

const ALL = Array.from({ length: PROMPT }, (_, token) => token);

/** A run of tokens [S] behind P cached ones. */
interface Run {
  readonly tokens: readonly number[];
  readonly positions: readonly number[];
  readonly cached?: number;
  /** The bias of a query's score for a key, by their places. Default 0. */
  readonly bias?: (query: number, key: number) => number;
}

function feeds(
  { tokens, positions, cached = 0, bias = () => 0 }: Run,
  biased: ReturnType<typeof biasDecoder>,
): Record<string, Tensor> {
  const rows = tokens.map((token) => embeddings(token, 1).data as Float32Array);
  const data = Float32Array.from(rows.flatMap((row) => [...row]));
  const total = cached + tokens.length;
  const map = Float32Array.from({ length: tokens.length * total }, (_, i) =>
    bias(cached + Math.floor(i / total), i % total),
  );
  const tensor = new Tensor('float32', map, [1, 1, tokens.length, total]);
  return {
    inputs_embeds: new Tensor('float32', data, [1, tokens.length, WIDTH]),
    attention_mask: ones(total),
    position_ids: integers(positions, [1, positions.length]),
    [biased.firstBias]: tensor,
    [biased.laterBias]: tensor,
  };
}

function lastLogits({ logits }: Record<string, Tensor>): number[] {
  return [...(logits.data as Float32Array).subarray((logits.dims[1] - 1) * VOCABULARY)];
}

describe.each(DECODERS)('%s with a bias', (name) => {
  const model = readModel(decoderFile(name));
  const biased = biasDecoder(model);
  const open = (): Promise<CachedSession> => CachedSession.open(biased.model);

  test('is the original where the bias is 0, and goes on from its cache', async () => {
    const [original, session] = [await CachedSession.open(model), await open()];
    for (const [start, count] of [
      [0, PROMPT],
      [PROMPT, 1],
    ]) {
      const tokens = Array.from({ length: count }, (_, i) => start + i);
      const expected = await original.tokens(start, count);
      const out = await session.run(feeds({ tokens, positions: tokens, cached: start }, biased));
      expect(difference(out.logits, expected.logits.data as Float32Array)).toBeLessThan(1e-5);
    }
    for (let layer = 0; layer < LAYERS; layer++) expect(session.cached(layer)).toBe(PROMPT + 1);
  });

  test('attends to a token of size 3 as to three of it', async () => {
    // The first token sees nothing but itself, however often it is there: its copies stay alike in all layers.
    const rest = ALL.slice(1);
    const [merged, repeated] = [await open(), await open()];
    const size = (_: number, key: number): number => (key === 0 ? Math.log(3) : 0);
    const one = await merged.run(feeds({ tokens: ALL, positions: ALL, bias: size }, biased));
    const three = await repeated.run(
      feeds({ tokens: [0, 0, 0, ...rest], positions: [0, 0, 0, ...rest] }, biased),
    );
    expect(difference(one.logits, lastRows(three, PROMPT))).toBeLessThan(1e-4);
    const next = { tokens: [PROMPT], positions: [PROMPT] };
    const step = await merged.run(feeds({ ...next, cached: PROMPT, bias: size }, biased));
    const expected = await repeated.run(feeds({ ...next, cached: PROMPT + 2 }, biased));
    expect(difference(step.logits, lastLogits(expected))).toBeLessThan(1e-4);
    const unbiased = await open();
    const without = await unbiased.run(feeds({ tokens: ALL, positions: ALL }, biased));
    expect(difference(without.logits, lastRows(three, PROMPT))).toBeGreaterThan(1e-3);
  });

  test('does not see a token whose score is pushed down, and keeps the gap that it leaves', async () => {
    const hidden = 4;
    const left = ALL.filter((token) => token !== hidden);
    const [pushed, without] = [await open(), await open()];
    const out = await pushed.run(
      feeds({ tokens: ALL, positions: ALL, bias: (_, key) => (key === hidden ? -1e4 : 0) }, biased),
    );
    const expected = await without.run(feeds({ tokens: left, positions: left }, biased));
    expect(difference({ data: Float32Array.from(lastLogits(out)) }, lastLogits(expected))).toBeLessThan(1e-4);
  });
});

/** The last `count` rows of the logits. */
function lastRows({ logits }: Record<string, Tensor>, count: number): Float32Array {
  return (logits.data as Float32Array).subarray((logits.dims[1] - count) * VOCABULARY);
}

test('what is no decoder is refused', () => {
  expect(() => biasDecoder(readModel(decoderFile('../clip-eager-17')))).toThrow(OnnxStructureError);
});
