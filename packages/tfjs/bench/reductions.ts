/**
 * What a reduction costs on each backend, beside plain JS: on the shapes of CLIP-L/336 in LLaVA-1.5, and of
 * five such images as LLaVA-NeXT cuts one into. All take turns in one run. Inputs are on their backend before
 * the clock starts; what it takes to bring them there is a row of its own.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  attentionGiven,
  attentionReceived,
  classAttention,
  createBackendTokens,
  createTokens,
  keys as keysSignal,
  nearestRowsWith,
  planTokens,
  referenceBackend,
  type GivenSignal,
  type HostTensor,
  type TokenReducer,
  type TokenSource,
} from '@foveate/core';
import { fopruRank } from '@foveate/fopru-rank';
import { pooling } from '@foveate/pooling';
import { prumerge } from '@foveate/prumerge';
import { BackendUnavailableError, loadBackend, reduceBatch, tfjsBackend } from '@foveate/tfjs';
import * as tf from '@tensorflow/tfjs-core';
import { openRowProducts, openSignificanceGraph, type ReadSignificance } from './onnx-graphs.js';

const HEADS = 16;
const GRID = { rows: 24, columns: 24 };
const TOKENS = GRID.rows * GRID.columns; // N
const SIDE = TOKENS + 1; // L, with CLS
const CHANNELS = 1024; // D
const budget = { keepRatio: 0.25 };

/** Where tools/tfjs-node-from-wheel builds the addon. */
const BUILT = fileURLToPath(new URL('../../../../node_modules/.cache/tfjs-node-from-wheel', import.meta.url)); // from .reports/bench

/** The data of one image. */
interface Image {
  /** [H, L, L] after softmax */
  readonly attention: Float32Array;
  /** [N, D] */
  readonly features: Float32Array;
  /** [N, D] */
  readonly keys: Float32Array;
}

/**
 * Brings fresh inputs to the backend, as every image's are, and gives the call whose time counts. It frees
 * them.
 */
type Work = () => Promise<() => Promise<void>>;

/** The rows of one backend; those that it has no code for are absent. */
type Rows = Readonly<Record<string, Work>>;

const reducers: Readonly<Record<string, TokenReducer>> = {
  'fopru-rank 25 %': fopruRank(budget),
  'prumerge 25 %': prumerge(budget),
  'pooling 2x2': pooling(),
};

/** Numbers in [0, 1), always the same. */
function uniform(seed: number): () => number {
  let state = seed;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

/** Rows that sum to 1, some tokens attended many times as much as others. */
function randomImage(seed: number): Image {
  const next = uniform(seed);
  const vector = (size: number): Float32Array => Float32Array.from({ length: size }, () => 2 * next() - 1);
  const weights = Float32Array.from({ length: SIDE }, () => next() ** 8);
  const attention = new Float32Array(HEADS * SIDE * SIDE);
  for (let row = 0; row < attention.length; row += SIDE) {
    let sum = 0;
    for (let j = 0; j < SIDE; j++) sum += attention[row + j] = weights[j] * next();
    for (let j = 0; j < SIDE; j++) attention[row + j] /= sum;
  }
  return { attention, features: vector(TOKENS * CHANNELS), keys: vector(TOKENS * CHANNELS) };
}

/** Plain JS, the reference. */
function jsRows(images: readonly Image[]): Rows {
  const tensor = (data: Float32Array, ...shape: number[]): HostTensor => ({ data, shape });
  const tensors = images.map(({ attention, features, keys }) => ({
    attention: tensor(attention, HEADS, SIDE, SIDE),
    features: tensor(features, TOKENS, CHANNELS),
    keys: tensor(keys, TOKENS, CHANNELS),
  }));
  const run =
    (reducer: TokenReducer): Work =>
    async () =>
    async () => {
      for (const { attention, features, keys } of tensors) {
        const tokens = createBackendTokens(referenceBackend, {
          length: TOKENS,
          grid: GRID,
          attention: [{ values: attention, classToken: true }],
          signals: [{ ...keysSignal(), values: keys }],
        });
        const plan = await planTokens(reducer, tokens);
        await referenceBackend.applyPlan(features, plan);
      }
    };
  return {
    significance: async () => async () => {
      for (const { attention } of tensors) await referenceBackend.marginals(attention, { classToken: true });
    },
    ...eachReducer(run),
  };
}

/** A backend of TensorFlow.js by its name there: a batch goes in, ragged results come out. */
function tfjsRows(registered: string, images: readonly Image[]): Rows {
  const whole = (name: keyof Image): Float32Array => {
    const data = new Float32Array(images.length * images[0][name].length);
    for (const [i, image] of images.entries()) data.set(image[name], i * image[name].length);
    return data;
  };
  const [attention, features, keys] = [whole('attention'), whole('features'), whole('keys')];
  const upload = (): Record<keyof Image, tf.Tensor> => ({
    attention: tf.tensor(attention, [images.length, HEADS, SIDE, SIDE]),
    features: tf.tensor(features, [images.length, TOKENS, CHANNELS]),
    keys: tf.tensor(keys, [images.length, TOKENS, CHANNELS]),
  });
  const run =
    (reducer: TokenReducer): Work =>
    async () => {
      await tf.setBackend(registered);
      const inputs = settled(upload());
      return async () => {
        const { keys: rows, ...tensors } = inputs;
        const signals = [{ ...keysSignal(), values: rows }];
        const reductions = await reduceBatch(reducer, { ...tensors, signals, grid: GRID });
        tf.dispose([inputs, reductions.map((reduction) => reduction.features)]);
      };
    };
  return {
    upload: async () => {
      await tf.setBackend(registered);
      return async () => {
        tf.dispose(settled(upload()));
      };
    },
    significance: async () => {
      await tf.setBackend(registered);
      const maps = settled(images.map((image) => tf.tensor(image.attention, [HEADS, SIDE, SIDE])));
      return async () => {
        for (const map of maps) await tfjsBackend.marginals(map, { classToken: true });
        tf.dispose(maps);
      };
    },
    ...eachReducer(run),
  };
}

/** Backends may copy what they are given only when it is first read. */
function settled<Tensors extends Record<string, tf.Tensor> | tf.Tensor[]>(tensors: Tensors): Tensors {
  tf.tidy(() => {
    for (const tensor of Object.values(tensors)) {
      const { shape } = tensor;
      const [first, one] = [shape.map(() => 0), shape.map(() => 1)];
      tf.slice(tensor, first, one).dataSync();
    }
  });
  return tensors;
}

/**
 * As @foveate/lvlm does it: significance where the map is, in the graph, and products of keys in another;
 * plans are made and applied in JS. Class attention, which the encoder's graph makes of its queries and keys,
 * is at hand.
 */
async function onnxRows(images: readonly Image[]): Promise<Rows> {
  const read = await openSignificanceGraph(HEADS, SIDE);
  await checkSignificance(read, images[0]);
  const products = await openRowProducts();
  const run =
    (name: string, tokensOf: (image: Image) => Promise<TokenSource>): Work =>
    async () =>
    async () => {
      for (const image of images) {
        const plan = await planTokens(reducers[name], await tokensOf(image));
        await referenceBackend.applyPlan({ data: image.features, shape: [TOKENS, CHANNELS] }, plan);
      }
    };
  const tokens = (signals: readonly GivenSignal[]): TokenSource =>
    createTokens({ length: TOKENS, grid: GRID, signals });
  return {
    significance: async () => async () => {
      for (const { attention } of images) await read(attention);
    },
    'fopru-rank 25 %': run('fopru-rank 25 %', async ({ attention }) => {
      const { given, received } = await read(attention);
      return tokens([
        { ...attentionGiven(), values: given },
        { ...attentionReceived(), values: received },
      ]);
    }),
    'prumerge 25 %': run('prumerge 25 %', async ({ attention, keys }) => ({
      ...tokens([{ ...classAttention(), values: attention.subarray(1, SIDE) }]),
      nearest: async (_, of, k) => nearestRowsWith(products, keys, TOKENS, of, k),
    })),
  };
}

/** The graph must compute what the others do. */
async function checkSignificance(read: ReadSignificance, { attention }: Image): Promise<void> {
  const map = { data: attention, shape: [HEADS, SIDE, SIDE] };
  const expected = await referenceBackend.marginals(map, { classToken: true });
  const actual = await read(attention);
  for (const signal of ['given', 'received'] as const) {
    const wrong = expected[signal].some((value, i) => !(Math.abs(value - actual[signal][i]) < 1e-6));
    if (wrong) throw new Error(`The graph's ${signal} is not that of plain JS.`);
  }
}

function eachReducer(row: (reducer: TokenReducer) => Work): Rows {
  return Object.fromEntries(Object.entries(reducers).map(([name, reducer]) => [name, row(reducer)]));
}

/** The backends of TensorFlow.js that work here, by name, and the name under which each is registered. */
async function tfjsBackends(): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const prefer of [['node-gpu', 'node'], ['wasm']] as const) {
    try {
      const from = prefer[0] === 'wasm' || !existsSync(BUILT) ? {} : { from: BUILT };
      const { name, device } = await loadBackend({ prefer, ...from });
      found.set(name === 'wasm' ? name : `tfjs-${name} on ${device}`, tf.getBackend());
    } catch (error) {
      if (!(error instanceof BackendUnavailableError)) throw error;
      console.log(`Left out: ${prefer.join(', ')}. ${error.message}\n`);
    }
  }
  return found;
}

/** Milliseconds of every call, by backend and row; all take turns. */
async function measure(backends: ReadonlyMap<string, Rows>, rounds: number): Promise<Map<string, number[]>> {
  const times = new Map<string, number[]>();
  // As many rounds before those that count, for V8 to compile what it runs.
  for (let round = -rounds; round < rounds; round++) {
    if (process.stderr.isTTY) process.stderr.write(`\rround ${Math.max(0, round)} of ${rounds}\x1b[K`);
    for (const [backend, rows] of backends) {
      for (const [row, work] of Object.entries(rows)) {
        const call = await work();
        const start = performance.now();
        await call();
        if (round < 0) continue;
        const key = `${backend} ${row}`;
        times.set(key, [...(times.get(key) ?? []), performance.now() - start]);
      }
    }
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  return times;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

async function compare(available: ReadonlyMap<string, string>, count: number, rounds: number): Promise<void> {
  const images = Array.from({ length: count }, (_, i) => randomImage(i + 1));
  const backends = new Map<string, Rows>([['js', jsRows(images)]]);
  for (const [name, registered] of available) {
    await tf.setBackend(registered);
    backends.set(name, tfjsRows(registered, images));
  }
  backends.set('onnxruntime', await onnxRows(images));
  const times = await measure(backends, rounds);
  const rows = ['upload', 'significance', ...Object.keys(reducers)];
  const cell = (backend: string, row: string): string => {
    const [own, js] = [times.get(`${backend} ${row}`), times.get(`js ${row}`)];
    if (!own) return '';
    const ratio = js && backend !== 'js' ? ` (${(median(own) / median(js)).toFixed(2)})` : '';
    return `${median(own).toFixed(1)}${ratio}`;
  };
  console.log(
    `${count} x ${TOKENS} tokens, ${HEADS} heads, ${CHANNELS} channels: milliseconds, median of ${rounds} calls (of plain JS)`,
  );
  console.table(
    Object.fromEntries(
      rows.map((row) => [
        row,
        Object.fromEntries(Array.from(backends.keys(), (name) => [name, cell(name, row)])),
      ]),
    ),
  );
}

const available = await tfjsBackends();
await compare(available, 1, 15);
await compare(available, 5, 5);
