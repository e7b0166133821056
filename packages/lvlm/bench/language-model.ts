/**
 * What reductions save inside the language model: FoPru before it, FastV inside it, and both, on a decoder
 * with random weights of 8 layers that reads 640 tokens, 576 of them visual. Nine pictures of the small
 * random bundle make the visual tokens; only its decoder is replaced by a larger one. All rows take turns in
 * one run, so that the ratios are those of one machine at one time.
 */
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TokenReducer } from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { Lvlm, type GenerateResult, type RawImage } from '@foveate/lvlm';
import { llamaGraph, randomLlama, type GraphOptions } from '../test/llama-graph.js';

const FIXTURE = fileURLToPath(new URL('../../fixtures/random-llava', import.meta.url)); // from .reports/bench
const SIZES = { layers: 8, width: 512, heads: 8, kvHeads: 8, headDim: 64, inner: 1408, vocabulary: 260 };
const EMBEDDING_WIDTH = 24;
const IMAGES = 9;
const IMAGE_TOKENS = 64;
/** Tokens of the prompt that are no image: the begin token and the letters. */
const TEXT = 64;
const ROUNDS = 5;
const NEW_TOKENS = 12;
const K = 2;

interface Row {
  readonly name: string;
  readonly reducers: readonly TokenReducer[];
  /** Visual tokens that layers below K, and from K on, have to hold, by hand. */
  readonly visual: readonly [below: number, above: number];
}

const ROWS: readonly Row[] = [
  { name: 'none', reducers: [], visual: [576, 576] },
  {
    name: 'fopru-rank 25 %',
    reducers: [fopruRank({ keepRatio: 0.25 })],
    visual: [144, 144],
  },
  {
    name: `fastv 25 %, K = ${K}`,
    reducers: [fastv({ layer: K, keepRatio: 0.25 })],
    visual: [576, 144],
  },
  {
    name: `fopru-rank 50 % + fastv 50 %, K = ${K}`,
    reducers: [fopruRank({ keepRatio: 0.5 }), fastv({ layer: K, keepRatio: 0.5 })],
    visual: [288, 144],
  },
];

/** A picture without structure. */
function picture(seed: number): RawImage {
  const data = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * (31 + seed)) % 251);
  return { data, width: 64, height: 64, channels: 3 };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

/**
 * Bytes that the keys and values of every layer must take: two numbers of 4 bytes a channel of a key head.
 */
function kvBytesByHand([below, above]: Row['visual'], run: number): number {
  const token = 2 * SIZES.kvHeads * SIZES.headDim * 4;
  return token * (K * (TEXT + below + run) + (SIZES.layers - K) * (TEXT + above + run));
}

async function measure(attention: GraphOptions['attention']): Promise<void> {
  const bundle = await mkdtemp(path.join(tmpdir(), 'foveate-bench-'));
  try {
    await cp(FIXTURE, bundle, { recursive: true });
    const graph = llamaGraph(randomLlama(SIZES), { attention, embeddingWidth: EMBEDDING_WIDTH });
    await writeFile(path.join(bundle, 'onnx/decoder_model_merged.onnx'), graph);
    await using lvlm = await Lvlm.load(bundle);
    const images = Array.from({ length: IMAGES }, (_, i) => picture(i));
    const rawPrompt = lvlm.info.imageToken.repeat(IMAGES) + 'x'.repeat(TEXT - 1);
    const ask = ({ reducers }: Row): Promise<GenerateResult> =>
      lvlm.generate({ images, rawPrompt, reducers, maxNewTokens: NEW_TOKENS });
    const results = new Map(ROWS.map((row) => [row, [] as GenerateResult[]]));
    for (let round = 0; round <= ROUNDS; round++) {
      for (const row of ROWS) {
        const result = await ask(row);
        if (round > 0) results.get(row)?.push(result); // the first one opens the graphs
        if (process.stderr.isTTY)
          process.stderr.write(`\r${attention}: round ${round} of ${ROUNDS}, ${row.name}\x1b[K`);
      }
    }
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
    report(attention, results);
  } finally {
    await rm(bundle, { recursive: true, force: true });
  }
}

function report(attention: string, results: ReadonlyMap<Row, readonly GenerateResult[]>): void {
  const figures = Array.from(results, ([row, calls]) => {
    const [{ memory, equivalentTokens }] = calls;
    const { text, generated } = memory.cached;
    return {
      row,
      equivalentTokens,
      prefill: median(calls.map(({ timings }) => timings.prefillMs)),
      tpot: median(calls.map(({ timings }) => timings.tpotMs ?? NaN)),
      kvBytes: memory.kvBytes,
      exact: text === TEXT && memory.kvBytes === kvBytesByHand(row.visual, generated),
    };
  });
  const [none] = figures;
  const { layers, width } = SIZES;
  console.log(
    `Attention ${attention}: ${layers} layers of ${width} channels, ${TEXT} tokens of text, ${IMAGES * IMAGE_TOKENS} visual; medians of ${ROUNDS} calls`,
  );
  console.table(
    Object.fromEntries(
      figures.map(({ row, equivalentTokens, prefill, tpot, kvBytes, exact }) => [
        row.name,
        {
          'equivalent tokens': equivalentTokens,
          'prefill ms': prefill.toFixed(1),
          'of none': (prefill / none.prefill).toFixed(3),
          'a later token ms': tpot.toFixed(2),
          'of none ': (tpot / none.tpot).toFixed(3),
          'KV bytes': kvBytes,
          'as by hand': exact ? 'yes' : 'NO',
        },
      ]),
    ),
  );
}

for (const attention of ['grouped', 'written out'] as const) await measure(attention);
