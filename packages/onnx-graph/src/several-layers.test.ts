import { Tensor } from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import {
  CachedSession,
  DECODERS,
  decoderFile,
  expectedDecoder,
  integers,
  LAYERS,
  ones,
  PROMPT,
  STEPS,
  VOCABULARY,
  WIDTH,
} from '../fixtures/decoders/run.js';
import { difference } from '../fixtures/run.js';
import { readModel } from './files.js';
import { OnnxArgumentError, pruneDecoder, splitDecoder, type PrunedDecoder } from './index.js';

const { visual, keep, cuts } = expectedDecoder();
const pairs = DECODERS.flatMap((name) =>
  [
    [1, 2],
    [1, 3],
    [2, 3],
    [1, 2, 3],
  ].map((layers) => ({ name, layers })),
);

/** The places of the `count` visual tokens with the highest scores, and of all text: what FastV keeps. */
function kept(
  scores: Float32Array,
  places: readonly number[],
  among: readonly number[],
  count: number,
): number[] {
  const ranked = among.toSorted((a, b) => scores[places.indexOf(b)] - scores[places.indexOf(a)] || a - b);
  const dropped = new Set(ranked.slice(count));
  return places.filter((place) => !dropped.has(place));
}

/** Feeds of a pruned decoder. */
function feeds(
  pruned: PrunedDecoder,
  places: readonly number[],
  counts: readonly number[],
): Record<string, Tensor> {
  const keepCounts = pruned.prunings.map(({ keepCount }, i) => [keepCount, integers([counts[i]])]);
  return {
    [pruned.visualTokens]: integers(places),
    ...(Object.fromEntries(keepCounts) as Record<string, Tensor>),
  };
}

/** The last row of the logits. */
function lastLogits({ logits }: Record<string, Tensor>): Float32Array {
  return (logits.data as Float32Array).slice(-VOCABULARY);
}

/** All parts of a decoder with their caches; places of tokens that go on are positions of the prompt. */
async function openParts(name: string, layers: readonly number[]) {
  const { parts } = splitDecoder(
    readModel(decoderFile(name)),
    layers.map((layer) => ({
      layer,
      signals: [{ name: 'promptAttention', layer: layer - 1, rows: 'last' }],
    })),
  );
  const sessions = await Promise.all(parts.map(({ model }) => CachedSession.open(model)));
  return {
    /** Runs tokens from `start` on; between the parts `choose` says which go on. */
    run: async (
      start: number,
      count: number,
      choose: (places: number[], scores: Float32Array, cut: number) => number[],
    ) => {
      let places = Array.from({ length: count }, (_, i) => start + i);
      let out: Record<string, Tensor> = {};
      for (const [i, { input, output, visualTokens, questionTokens, signals, first }] of parts.entries()) {
        const seen = start > 0 ? [] : places.flatMap((p, at) => (visual.includes(p) ? [at] : []));
        const told = visualTokens !== null && {
          [visualTokens]: integers(seen),
          [questionTokens!]: integers([1]),
        };
        const hidden = input && (out[parts[i - 1].output!].data as Float32Array);
        out = hidden
          ? await sessions[i].run({
              [input]: new Tensor('float32', hidden, [1, places.length, WIDTH]),
              attention_mask: ones((sessions[i].cached(first) ?? 0) + places.length),
              position_ids: integers(places, [1, places.length]),
              ...told,
            })
          : await sessions[i].tokens(start, count, { ...told });
        if (output === null) break;
        const before = places;
        const values = out[signals[0]].data as Float32Array; // of the visual tokens
        const scores = new Float32Array(places.length);
        for (const [v, at] of seen.entries()) scores[at] = values[v];
        places = choose(before, scores, i);
        const rows = out[output].data as Float32Array;
        const staying = places.flatMap((place) => {
          const at = before.indexOf(place) * WIDTH;
          return [...rows.subarray(at, at + WIDTH)];
        });
        out[output] = new Tensor('float32', staying, [1, places.length, WIDTH]);
      }
      return { out, places };
    },
    cached: () =>
      parts.flatMap(({ first, end }, i) =>
        Array.from({ length: end - first }, (_, l) => sessions[i].cached(first + l)),
      ),
    release: async () => {
      for (const session of sessions) await session.release();
    },
  };
}

describe.each(pairs)('$name before layers $layers', ({ name, layers }) => {
  const model = readModel(decoderFile(name));
  const pruned = pruneDecoder(
    model,
    layers.map((layer) => ({ layer })),
  );

  test('in one graph or between parts: the same tokens, the same logits, the same caches', async () => {
    const counts = layers.map((_, i) => visual.length - 2 * (i + 1));
    const session = await CachedSession.open(pruned.model);
    const parts = await openParts(name, layers);
    for (let step = 0; step <= STEPS; step++) {
      const [start, count] = step === 0 ? [0, PROMPT] : [PROMPT + step - 1, 1];
      const inGraph = await session.tokens(start, count, feeds(pruned, step === 0 ? visual : [], counts));
      const between = await parts.run(start, count, (places, scores, cut) =>
        step > 0
          ? places
          : kept(
              scores,
              places,
              places.filter((place) => visual.includes(place)),
              counts[cut],
            ),
      );
      if (step === 0) {
        const places = pruned.prunings.reduce<number[]>(
          (before, { keptTokens }) =>
            Array.from(inGraph[keptTokens].data as BigInt64Array, (at) => before[Number(at)]),
          Array.from({ length: PROMPT }, (_, i) => i),
        );
        expect(places).toEqual(between.places);
        expect(places).toHaveLength(PROMPT - 2 * layers.length);
      }
      expect(difference({ data: lastLogits(inGraph) }, lastLogits(between.out))).toBeLessThan(1e-5);
      const seen = Array.from({ length: LAYERS }, (_, i) => session.cached(i));
      expect(seen).toEqual(parts.cached());
      expect(seen).toEqual(
        Array.from(
          { length: LAYERS },
          (_, i) => PROMPT + step - 2 * layers.filter((layer) => layer <= i).length,
        ),
      );
    }
    await session.release();
    await parts.release();
  });

  test('where only one drops tokens, it is what the reference computes for that one', async () => {
    for (const [i, layer] of layers.entries()) {
      const session = await CachedSession.open(pruned.model);
      const choice = cuts.find((cut) => cut.layer === layer)!.last;
      const counts = layers.map((_, other) => (other === i ? keep : PROMPT));
      for (let step = 0; step <= STEPS; step++) {
        const [start, count] = step === 0 ? [0, PROMPT] : [PROMPT + step - 1, 1];
        const out = await session.tokens(start, count, feeds(pruned, step === 0 ? visual : [], counts));
        const row = choice.logits.slice(step * VOCABULARY, (step + 1) * VOCABULARY);
        expect(difference({ data: lastLogits(out) }, row)).toBeLessThan(1e-4);
      }
      await session.release();
    }
  });
});

test('layers ascend', () => {
  const model = readModel(decoderFile('llama-eager'));
  expect(() => pruneDecoder(model, [{ layer: 2 }, { layer: 2 }])).toThrow(OnnxArgumentError);
  expect(() => pruneDecoder(model, [{ layer: 2 }, { layer: 1 }])).toThrow(/prunings\[1\]\.layer.*3 to 3.*1/);
  expect(() => splitDecoder(model, [{ layer: 2 }, { layer: 1 }])).toThrow(/cuts\[1\]\.layer.*3 to 3.*1/);
  const early = [{ layer: 2 }, { layer: 3, signals: [{ name: 'keyMagnitude', layer: 1 }] }];
  expect(() => splitDecoder(model, early)).toThrow(/cuts\[1\]\.signals\[0\]\.layer.*2 to 2.*1/);
});
