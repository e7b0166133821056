/** What a decoder's graph gives of its layers, against the hidden states and attention of the reference. */
import type { Tensor } from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import {
  CachedSession,
  DECODERS,
  decoderFile,
  embeddings,
  expectedDecoder,
  HEAD,
  integers,
  KV_HEADS,
  PROMPT,
  WIDTH,
} from '../../fixtures/decoders/run.js';
import { difference } from '../../fixtures/run.js';
import { decoderSignals, splitDecoder, type DecoderSignalRequest, type OnnxModel } from '../index.js';
import { readModel } from '../files.js';

const { visual, cuts } = expectedDecoder();
const QUESTION = PROMPT - 1 - Math.max(...visual);
/** Places of the question's tokens. */
const asking = Array.from({ length: QUESTION }, (_, i) => PROMPT - QUESTION + i);

/** [PROMPT][WIDTH] what enters each layer, by the reference. */
const entering: readonly (readonly number[][])[] = [
  rowsOf(embeddings(0, PROMPT).data as Float32Array),
  ...cuts.map(({ hidden }) => rowsOf(hidden)),
];

function rowsOf(values: ArrayLike<number>): number[][] {
  return Array.from({ length: PROMPT }, (_, i) => Array.from(values).slice(i * WIDTH, (i + 1) * WIDTH));
}

/** Runs the prompt through the part before a cut, and then a token behind it. */
async function runSignals(model: OnnxModel, layer: number, signals: readonly DecoderSignalRequest[]) {
  const [part] = splitDecoder(model, [{ layer, signals }]).parts;
  const session = await CachedSession.open(part.model);
  const told = (places: readonly number[], question: number): Record<string, Tensor> => ({
    [part.visualTokens!]: integers(places),
    [part.questionTokens!]: integers([question]),
  });
  const prompt = await session.tokens(0, PROMPT, told(visual, QUESTION));
  const behind = await session.tokens(PROMPT, 1, told([], 1));
  await session.release();
  return {
    prompt: part.signals.map((name) => prompt[name]),
    behind: part.signals.map((name) => behind[name]),
  };
}

/** The scale of the norm before the head. */
function finalScale({ graph }: OnnxModel): Float32Array {
  const { rawData } = graph.initializer.find(({ name }) => /(^|[./])norm\.weight$/.test(name))!;
  return new Float32Array(Uint8Array.from(rawData).buffer);
}

describe.each(DECODERS)('%s', (name) => {
  const model = readModel(decoderFile(name));

  test.each([1, 2])('before layer %i: attention of the layer behind the cut', async (layer) => {
    const next = cuts[layer]; // whose scores are of its layer - 1
    const { prompt, behind } = await runSignals(model, layer, [
      { name: 'promptAttention', layer, rows: 'last' },
      { name: 'promptAttention', layer, rows: 'mean' },
      { name: 'questionAttention', layer },
    ]);
    for (const [i, rows] of (['last', 'mean'] as const).entries()) {
      const expected = visual.map((place) => next[rows].scores[place]);
      expect(difference(prompt[i], expected)).toBeLessThan(1e-5);
      expect(behind[i].dims).toEqual([1, 0]);
    }
    expectQuestionAttention(prompt[2], next);
  });

  test('attention of every token of the question', async () => {
    const signals = [0, 1, 2].map((layer) => ({ name: 'questionAttention', layer }));
    const { prompt, behind } = await runSignals(model, 3, signals);
    for (const [i, cut] of cuts.entries()) expectQuestionAttention(prompt[i], cut);
    for (const { dims } of behind) expect(dims).toEqual([1, 0, 1]);
  });

  test('hidden states, and how far they moved', async () => {
    const signals = [1, 2].flatMap((layer) =>
      ['hiddenStates', 'questionStates', 'hiddenChange'].map((signal) => ({ name: signal, layer })),
    );
    const { prompt, behind } = await runSignals(model, 3, signals);
    for (const layer of [1, 2]) {
      const [states, question, change] = prompt.slice(3 * (layer - 1));
      const rows = entering[layer + 1];
      expect(states.dims).toEqual([1, visual.length, WIDTH]);
      expect(
        difference(
          states,
          visual.flatMap((place) => rows[place]),
        ),
      ).toBeLessThan(1e-4);
      expect(
        difference(
          question,
          asking.flatMap((place) => rows[place]),
        ),
      ).toBeLessThan(1e-4);
      const lengths = visual.map((p) => Math.hypot(...rows[p].map((x, d) => x - entering[layer][p][d])));
      expect(difference(change, lengths)).toBeLessThan(1e-4);
    }
    expect(behind.slice(0, 3).map(({ dims }) => dims)).toEqual([
      [1, 0, WIDTH],
      [1, 1, WIDTH],
      [1, 0],
    ]);
  });

  test.each([1, 3])('before layer %i: hidden states behind the norm before the head', async (layer) => {
    const scale = finalScale(model);
    const norm = (row: readonly number[]): number[] => {
      const square = row.reduce((sum, x) => sum + x * x, 0) / WIDTH;
      return row.map((x, d) => (x * scale[d]) / Math.sqrt(square + 1e-5));
    };
    const { prompt, behind } = await runSignals(model, layer, [
      { name: 'hiddenStates', layer: layer - 1, norm: 'final' },
      { name: 'questionStates', layer: layer - 1, norm: 'final' },
    ]);
    for (const [i, places] of [visual, asking].entries()) {
      const expected = places.flatMap((place) => norm(entering[layer][place]));
      expect(difference(prompt[i], expected)).toBeLessThan(1e-4);
    }
    expect(behind[0].dims).toEqual([1, 0, WIDTH]);
  });

  test('L1 norms of the keys that are cached', async () => {
    const whole = await CachedSession.open(model);
    const original = await whole.tokens(0, PROMPT);
    await whole.release();
    const signals = [0, 1].flatMap((layer) =>
      ['keyMagnitude', 'questionKeyMagnitude'].map((signal) => ({ name: signal, layer })),
    );
    const { prompt, behind } = await runSignals(model, 2, signals);
    for (const layer of [0, 1]) {
      const keys = original[`present.${layer}.key`].data as Float32Array; // [1, KV_HEADS, PROMPT, HEAD]
      const magnitude = (place: number): number => {
        let sum = 0;
        for (let head = 0; head < KV_HEADS; head++) {
          const start = (head * PROMPT + place) * HEAD;
          for (const key of keys.subarray(start, start + HEAD)) sum += Math.abs(key);
        }
        return sum;
      };
      const [ofVisual, ofQuestion] = prompt.slice(2 * layer);
      expect(difference(ofVisual, visual.map(magnitude))).toBeLessThan(1e-4);
      expect(difference(ofQuestion, asking.map(magnitude))).toBeLessThan(1e-4);
    }
    expect(behind.map(({ dims }) => dims.at(-1))).toEqual([0, 1, 0, 1]);
  });
});

/** The last of its rows and the mean of all are what the reference has. */
function expectQuestionAttention(values: Tensor, { last, mean }: (typeof cuts)[number]): void {
  expect(values.dims).toEqual([1, visual.length, QUESTION]);
  const data = values.data as Float32Array;
  const rows = visual.map((_, v) => data.subarray(v * QUESTION, (v + 1) * QUESTION));
  const [ofLast, ofMean] = [last, mean].map(({ scores }) => visual.map((place) => scores[place]));
  expect(difference({ data: Float32Array.from(rows, (row) => row[QUESTION - 1]) }, ofLast)).toBeLessThan(
    1e-5,
  );
  const means = Float32Array.from(rows, (row) => row.reduce((a, b) => a + b) / QUESTION);
  expect(difference({ data: means }, ofMean)).toBeLessThan(1e-5);
}

test('every provider says how it is laid out, and is found by its name', () => {
  for (const [name, signal] of decoderSignals) {
    expect(signal.name).toBe(name);
    expect(signal.shape.length).toBeGreaterThan(0);
  }
});
