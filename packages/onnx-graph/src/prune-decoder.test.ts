import type { Tensor } from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import {
  CachedSession,
  DECODERS,
  decoderFile,
  expectedDecoder,
  integers,
  LAYERS,
  PROMPT,
  STEPS,
  VOCABULARY,
} from '../fixtures/decoders/run.js';
import { difference } from '../fixtures/run.js';
import { findDecoder, OnnxArgumentError, OnnxStructureError, pruneDecoder } from './index.js';
import { readModel } from './files.js';

const expected = expectedDecoder();
const NONE = integers([]);
const cases = DECODERS.flatMap((name) =>
  expected.cuts.flatMap((cut) =>
    (['last', 'mean'] as const).map((rows) => ({ name, cut, rows, layer: cut.layer })),
  ),
);

/** The last row [VOCABULARY] of the logits. */
function lastLogits({ logits }: Record<string, Tensor>): Tensor {
  const rows = logits.dims[1];
  return { data: (logits.data as Float32Array).subarray((rows - 1) * VOCABULARY) } as unknown as Tensor;
}

test.each(DECODERS)(
  '%s: the layers are found, and the original computes what the reference does',
  async (name) => {
    const model = readModel(decoderFile(name));
    const { layers, hasPositions } = findDecoder(model);
    expect(hasPositions).toBe(name === 'llama-eager' || name.endsWith('positions'));
    const form = name === 'llama-eager' ? 'softmax' : 'com.microsoft.GroupQueryAttention';
    expect(layers).toHaveLength(LAYERS);
    for (const layer of layers) expect(layer).toMatchObject({ form, kvHeads: 2, headDim: 16 });
    expect(new Set(layers.flatMap(({ entry }) => entry)).size).toBeGreaterThanOrEqual(LAYERS);
    const session = await CachedSession.open(model);
    const { logits } = await session.tokens(0, PROMPT);
    expect(difference(logits, expected.logits.slice(0, PROMPT * VOCABULARY))).toBeLessThan(1e-4);
    await session.release();
  },
);

describe.each(cases)('$name pruned at layer $layer by rows $rows', ({ name, cut, rows, layer }) => {
  const model = readModel(decoderFile(name));
  const pruned = pruneDecoder(model, [{ layer, rows }]);
  const [names] = pruned.prunings;
  const feeds = (visual: Tensor, keep: number): Record<string, Tensor> => ({
    [pruned.visualTokens]: visual,
    [names.keepCount]: integers([keep]),
  });

  test('keeps what the reference keeps, and goes on as if later layers did not see the others', async () => {
    const session = await CachedSession.open(pruned.model);
    const prompt = await session.tokens(0, PROMPT, feeds(integers(expected.visual), expected.keep));
    const choice = cut[rows];
    expect(difference(prompt[names.promptAttention], choice.scores)).toBeLessThan(1e-5);
    const text = Array.from({ length: PROMPT }, (_, i) => i).filter((i) => !expected.visual.includes(i));
    const kept = [...text, ...choice.kept].sort((a, b) => a - b);
    expect(Array.from(prompt[names.keptTokens].data as BigInt64Array, Number)).toEqual(kept);
    for (let step = 0; step <= STEPS; step++) {
      const out = step === 0 ? prompt : await session.tokens(PROMPT + step - 1, 1, feeds(NONE, 0));
      const row = choice.logits.slice(step * VOCABULARY, (step + 1) * VOCABULARY);
      expect(difference(lastLogits(out), row)).toBeLessThan(1e-4);
      for (let i = 0; i < LAYERS; i++) {
        expect(session.cached(i)).toBe((i < layer ? PROMPT : kept.length) + step);
      }
    }
    await session.release();
  });

  test('is the original where everything is kept', async () => {
    const [original, session] = await Promise.all([
      CachedSession.open(model),
      CachedSession.open(pruned.model),
    ]);
    for (const [start, count] of [
      [0, PROMPT],
      [PROMPT, 1],
      [PROMPT + 1, 2],
    ] as const) {
      const whole = await original.tokens(start, count);
      const visual = start === 0 ? integers(expected.visual) : NONE;
      const out = await session.tokens(start, count, feeds(visual, 100));
      expect(difference(out.logits, whole.logits.data as Float32Array)).toBeLessThan(1e-5);
    }
    await original.release();
    await session.release();
  });
});

test('there have to be layers before and behind the cut', () => {
  const model = readModel(decoderFile('llama-eager'));
  for (const layer of [0, LAYERS, 1.5, NaN]) {
    expect(() => pruneDecoder(model, [{ layer }])).toThrow(OnnxArgumentError);
  }
});

test('what is no decoder is refused', () => {
  const model = readModel(decoderFile('../clip-eager-17'));
  expect(() => findDecoder(model)).toThrow(OnnxStructureError);
});
