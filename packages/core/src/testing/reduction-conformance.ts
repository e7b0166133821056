import * as fc from 'fast-check';
import type { TensorBackend } from '../backend.js';
import type { ReductionPlan } from '../plan.js';
import type { TokenReducer } from '../reducer.js';
import { nearestKeys } from '../nearest-keys.js';
import { referenceBackend } from '../reference-backend.js';
import type { PromptSignalRequest } from '../signals.js';
import { createTensorTokens } from '../tensor-tokens.js';
import type { VisualTokens } from '../visual-tokens.js';
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
 * Whole reductions, from attention map, keys and features to reduced features, on a backend and on the reference: plans of the same tokens wherever
 * the reference's own do not hang on differences of `tolerance`, and then the same weights and features within it.
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
            const nudged = await reduce(referenceBackend, nudge(reducer, tolerance, seed), image);
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
): Promise<{ plan: ReductionPlan; features: Float32Array }> {
  const length = rows * columns;
  const tensors: Tensor[] = [];
  const hold = (values: Float32Array, shape: number[]): Tensor => {
    const tensor = backend.upload(values, shape);
    tensors.push(tensor);
    return tensor;
  };
  try {
    const tokens = createTensorTokens(backend, {
      length,
      grid: { rows, columns },
      attention: hold(image.attention, [heads, length + 1, length + 1]),
      classToken: true,
      keys: hold(image.keys, [length, channels]),
      signals: promptSignals(reducer).map((request) => ({
        ...request,
        values: hold(image.prompt, [length]),
      })),
    });
    const plan = await reducer.plan(tokens);
    const reduced = await backend.applyPlan(hold(image.features, [length, channels]), plan);
    tensors.push(reduced);
    return { plan, features: await backend.download(reduced) };
  } finally {
    for (const tensor of tensors) backend.dispose(tensor);
  }
}

/** What no encoder gives: it is handed over as a vector. */
function promptSignals({ requires }: TokenReducer): PromptSignalRequest[] {
  return requires.filter((request) => request.signal === 'promptAttention');
}

/** The reducer on signals that are off by `amount`, each value up or down by chance. */
function nudge(reducer: TokenReducer, amount: number, seed: number): TokenReducer {
  let state = seed;
  const off = (values: Float32Array): Float32Array =>
    values.map((value) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0; // a linear congruential generator
      const moved = value + (state < 2 ** 31 ? amount : -amount);
      return value >= 0 ? Math.max(0, moved) : moved;
    });
  const nudgeTokens = (tokens: VisualTokens): VisualTokens => ({
    ...tokens,
    signal: async (request) => off(await tokens.signal(request)),
    nearest: async (of, k, layer = 'features') =>
      nearestKeys(off(await tokens.signal({ signal: 'keys', layer })), tokens.length, of, k),
  });
  return { ...reducer, plan: (tokens) => reducer.plan(nudgeTokens(tokens)) };
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
