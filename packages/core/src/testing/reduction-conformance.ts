import * as fc from 'fast-check';
import type { TensorBackend } from '../backend.js';
import type { ReductionPlan } from '../plan.js';
import { createBackendTokens } from '../backend-tokens.js';
import { nearestRows } from '../nearest-rows.js';
import { planTokens, type TokenReducer } from '../reducer.js';
import { referenceBackend } from '../reference-backend.js';
import type { SignalRequest } from '../signals/define-signal.js';
import { requestsOf, type TokenSource } from '../token-source.js';
import { arbitraryAttention, arbitraryFeatures } from './arbitraries.js';
import { ensure, type ConformanceCase } from './conformance-case.js';

/** The backend and the reducers that are tried on it. */
export interface ReductionConformanceOptions<Tensor> {
  /** Called once a test. */
  readonly create: () => TensorBackend<Tensor> | Promise<TensorBackend<Tensor>>;
  /** One of each that is to be tried. */
  readonly reducers: readonly TokenReducer[];
  /** Largest difference to the reference, relative to values above 1. Default 1e-5. */
  readonly tolerance?: number;
  /** Generated inputs a reducer. Default 50. */
  readonly runs?: number;
}

/**
 * Whole reductions, from attention map, keys and features to reduced features, on a backend and on the
 * reference: plans of the same tokens wherever the reference's own do not hang on differences of `tolerance`,
 * and then the same weights and features within it.
 */
export function reductionConformance<Tensor>(
  options: ReductionConformanceOptions<Tensor>,
): ConformanceCase[] {
  const { create, reducers, tolerance = 1e-5, runs = 50 } = options;
  return reducers.map((reducer) => ({
    name: `${reducer.name} reduces as on the reference`,
    run: async () => {
      const backend = await create();
      await fc.assert(
        fc.asyncProperty(arbitraryImage(), async (image) => {
          const expected = await reduce(referenceBackend, reducer, image);
          for (let seed = 0; seed < 8; seed++) {
            const nudged = await reduce(referenceBackend, reducer, image, (tokens) =>
              nudge(tokens, tolerance, seed),
            );
            fc.pre(sameTokens(nudged.plan, expected.plan));
          }
          const actual = await reduce(backend, reducer, image);
          ensure(
            sameTokens(actual.plan, expected.plan),
            `sources ${actual.plan.sources.join()} in place of ${expected.plan.sources.join()}`,
          );
          ensureClose('weights', actual.plan.weights, expected.plan.weights, tolerance);
          ensureClose('features', actual.features, expected.features, tolerance);
        }),
        { numRuns: runs },
      );
    },
  }));
}

/** One image's tensors in the memory of JS. */
interface Image {
  readonly rows: number;
  readonly columns: number;
  readonly heads: number;
  readonly attention: Float32Array; // [heads, N + 1, N + 1]
  readonly keys: Float32Array; // [N, channels]
  readonly features: Float32Array; // [N, channels]
  readonly prompt: Float32Array; // [N]
}

const channels = 4;

function arbitraryImage(): fc.Arbitrary<Image> {
  const sides = { min: 1, max: 5 };
  return fc
    .record({ rows: fc.integer(sides), columns: fc.integer(sides), heads: fc.integer({ min: 1, max: 3 }) })
    .chain(({ rows, columns, heads }) => {
      const length = rows * columns;
      return fc.record({
        rows: fc.constant(rows),
        columns: fc.constant(columns),
        heads: fc.constant(heads),
        attention: arbitraryAttention(heads, length + 1),
        keys: arbitraryFeatures(length, channels),
        features: arbitraryFeatures(length, channels),
        prompt: arbitraryAttention(1, length).map((map) => map.slice(0, length)),
      });
    });
}

async function reduce<Tensor>(
  backend: TensorBackend<Tensor>,
  reducer: TokenReducer,
  { rows, columns, heads, ...image }: Image,
  change: (tokens: TokenSource) => TokenSource = (tokens) => tokens,
): Promise<{ plan: ReductionPlan; features: Float32Array }> {
  const length = rows * columns;
  const tensors: Tensor[] = [];
  const hold = (values: Float32Array, shape: number[]): Tensor => {
    const tensor = backend.upload(values, shape);
    tensors.push(tensor);
    return tensor;
  };
  try {
    const map = hold(image.attention, [heads, length + 1, length + 1]);
    const tokens = createBackendTokens(backend, {
      length,
      grid: { rows, columns },
      attention: [{ values: map, classToken: true }],
      signals: requestsOf(reducer.requires, reducer.at[0]).flatMap((request) => {
        const given = valuesOf(request, image, length);
        return given ? [{ ...request, values: hold(given.values, given.shape) }] : [];
      }),
    });
    const plan = await planTokens(reducer, change(tokens));
    const reduced = await backend.applyPlan(hold(image.features, [length, channels]), plan);
    tensors.push(reduced);
    return { plan, features: await backend.download(reduced) };
  } finally {
    for (const tensor of tensors) backend.dispose(tensor);
  }
}

/**
 * What no attention map gives is handed over: rows as the keys, a vector of the language model as the
 * attention of the prompt.
 */
function valuesOf(
  { signal }: SignalRequest,
  { keys, prompt }: Pick<Image, 'keys' | 'prompt'>,
  length: number,
): { values: Float32Array; shape: number[] } | undefined {
  if (signal.shape.join() === 'N,D') return { values: keys, shape: [length, channels] };
  return signal.of === 'language-layer' ? { values: prompt, shape: [length] } : undefined;
}

/** The tokens with signals that are off by `amount`, each value up or down by chance. */
function nudge(tokens: TokenSource, amount: number, seed: number): TokenSource {
  let state = seed;
  const off = (values: Float32Array): Float32Array =>
    values.map((value) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0; // a linear congruential generator
      const moved = value + (state < 2 ** 31 ? amount : -amount);
      return value >= 0 ? Math.max(0, moved) : moved;
    });
  return {
    ...tokens,
    signal: async (request) => off(await tokens.signal(request)),
    nearest: async (rows, of, k) => nearestRows(off(await tokens.signal(rows)), tokens.length, of, k),
  };
}

function sameTokens(first: ReductionPlan, second: ReductionPlan): boolean {
  return (['offsets', 'sources', 'anchors'] as const).every(
    (part) =>
      first[part].length === second[part].length &&
      first[part].every((value, i) => value === second[part][i]),
  );
}

function ensureClose(
  what: string,
  actual: Float32Array | undefined,
  expected: Float32Array | undefined,
  tolerance: number,
): void {
  const values = actual ?? [];
  const wanted = expected ?? [];
  const close =
    values.length === wanted.length &&
    values.every((value, i) => Math.abs(value - wanted[i]) <= tolerance * Math.max(1, Math.abs(wanted[i])));
  ensure(close, `${what}: expected ${wanted.join(', ')}; was ${values.join(', ')}`);
}
