/**
 * What reductions inside the vision encoder save: ToMe in every layer and early drop before layer 8, each to
 * a quarter of the patches, on an encoder of CLIP-L/336's size (23 of its 24 layers make the features) and a
 * language model of SmolLM2-135M's, both with random weights; the vocabulary is cut. All rows take turns in
 * one run, so that the ratios are those of one machine at one time.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TokenReducer } from '@foveate/core';
import { earlyDrop } from '@foveate/early-drop';
import { fopruRank } from '@foveate/fopru-rank';
import { Lvlm } from '@foveate/lvlm';
import { tome } from '@foveate/tome';
import { LARGE_PICTURE, writeLargeEncoder } from '../test/large-encoder.js';
import { llamaGraph, randomLlama } from '../test/llama-graph.js';

const LANGUAGE_MODEL = {
  ...{ layers: 30, width: 576, heads: 9, kvHeads: 3, headDim: 64, inner: 1536 },
  vocabulary: 260,
};
const EMBEDDING_WIDTH = 24;
const TEXT = 64;
const ROUNDS = 5;

const ROWS: Readonly<Record<string, readonly TokenReducer[]>> = {
  none: [],
  'tome 25 %': [tome({ keepRatio: 0.25 })],
  'early-drop 25 % before layer 8': [earlyDrop({ layer: 8, keepRatio: 0.25 })],
  'fopru-rank 25 %, behind the encoder': [fopruRank({ keepRatio: 0.25 })],
};

/** Milliseconds of the calls of a row. */
interface Times {
  readonly encoder: number[];
  readonly firstToken: number[];
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

async function measure(bundle: string): Promise<Map<string, Times>> {
  await using lvlm = await Lvlm.load(bundle, { cacheDirectory: path.join(bundle, 'cache') });
  const rawPrompt = lvlm.info.imageToken + 'x'.repeat(TEXT - 1);
  const rows = Object.entries(ROWS);
  const times = new Map(rows.map(([name]): [string, Times] => [name, { encoder: [], firstToken: [] }]));
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [name, reducers] of round % 2 === 0 ? rows : rows.toReversed()) {
      const { timings } = await lvlm.generate({
        images: [LARGE_PICTURE],
        rawPrompt,
        reducers,
        maxNewTokens: 1,
      });
      if (process.stderr.isTTY) process.stderr.write(`\rround ${round} of ${ROUNDS}, ${name}\x1b[K`);
      if (round === 0) continue; // the first one opens the graphs
      times.get(name)?.encoder.push(timings.visionMs);
      times.get(name)?.firstToken.push(timings.ttftMs);
    }
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  return times;
}

const bundle = await mkdtemp(path.join(tmpdir(), 'foveate-bench-'));
try {
  await writeLargeEncoder(bundle, 23);
  const decoder = llamaGraph(randomLlama(LANGUAGE_MODEL), {
    attention: 'grouped',
    embeddingWidth: EMBEDDING_WIDTH,
  });
  await writeFile(path.join(bundle, 'onnx/decoder_model_merged.onnx'), decoder);
  const times = await measure(bundle);
  const ofNone = (part: keyof Times, values: readonly number[]): string =>
    (median(values) / median(times.get('none')?.[part] ?? [])).toFixed(3);
  console.log(
    `CLIP-L/336 and SmolLM2-135M with random weights, ${TEXT} tokens of text; medians of ${ROUNDS} calls`,
  );
  console.table(
    Object.fromEntries(
      Array.from(times, ([name, { encoder, firstToken }]) => [
        name,
        {
          'encoder ms': median(encoder).toFixed(0),
          'of none': ofNone('encoder', encoder),
          'first token ms': median(firstToken).toFixed(0),
          'of none ': ofNone('firstToken', firstToken),
        },
      ]),
    ),
  );
} finally {
  await rm(bundle, { recursive: true, force: true });
}
