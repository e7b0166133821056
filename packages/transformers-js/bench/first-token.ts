/**
 * Time to the first token of the embedded model, from ready inputs on: transformers.js alone, and with each
 * method. The rows take turns in one run; what is reported is the median of each and the median of the ratios
 * to transformers.js alone, round by round.
 */
import path from 'node:path';
import { random, uniform } from '@foveate/baselines';
import type { TokenReducer } from '@foveate/core';
import { fastervlm } from '@foveate/fastervlm';
import { fopruRank } from '@foveate/fopru-rank';
import { pooling } from '@foveate/pooling';
import { prumerge } from '@foveate/prumerge';
import { imagesDirectory, modelDirectory } from '@foveate/tiny-llava';
import { reduceVisualTokens } from '@foveate/transformers-js';
import { AutoProcessor, env, LlavaForConditionalGeneration, RawImage } from '@huggingface/transformers';

const ROUNDS = 40;
/** Calls before those that count: V8 compiles what they run. */
const WARM_UP = 10;

const ROWS: Readonly<Record<string, TokenReducer | null>> = {
  'transformers.js alone': null,
  'fopru-rank 25 %': fopruRank({ keepRatio: 0.25 }),
  'fastervlm 25 %': fastervlm({ keepRatio: 0.25 }),
  'prumerge 25 %': prumerge({ keepRatio: 0.25 }),
  pooling: pooling(),
  'uniform 25 %': uniform({ keepRatio: 0.25 }),
  'random 25 %': random({ keepRatio: 0.25 }),
  'fopru-rank 100 %': fopruRank({ keepRatio: 1 }),
};

/** Idle thread pools of one model would starve the next one. */
const sessionOptions = { extra: { session: { force_spinning_stop: '1' } } };

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
}

/** Milliseconds from the call to its first token. */
type Run = () => Promise<number>;

/** A model of its own, so that none has to be changed between calls. */
async function open(reducer: TokenReducer | null): Promise<Run> {
  const processor = await AutoProcessor.from_pretrained(modelDirectory);
  const model = await LlavaForConditionalGeneration.from_pretrained(modelDirectory, {
    dtype: 'fp32',
    session_options: sessionOptions,
  });
  const visionEncoder = path.join(modelDirectory, 'onnx', 'vision_encoder.onnx');
  if (reducer) await reduceVisualTokens(model, reducer, { visionEncoder, sessionOptions });
  const image = await RawImage.read(path.join(imagesDirectory, '0001.png'));
  const inputs = (await processor(image, 'USER: <image>\nWhat number is written here? ASSISTANT:')) as object;
  return async () => {
    const start = performance.now();
    await model.generate({ ...inputs, max_new_tokens: 1, do_sample: false });
    return performance.now() - start;
  };
}

env.allowRemoteModels = false;
env.localModelPath = path.parse(process.cwd()).root;
const rows: { readonly name: string; readonly run: Run; readonly times: number[] }[] = [];
for (const [name, reducer] of Object.entries(ROWS)) rows.push({ name, run: await open(reducer), times: [] });
for (let round = -WARM_UP; round < ROUNDS; round++) {
  for (const { run, times } of round % 2 === 0 ? rows : rows.toReversed()) {
    const time = await run();
    if (round >= 0) times.push(time);
  }
}
const [{ times: alone }] = rows;
for (const { name, times } of rows) {
  const ratio = median(times.map((time, round) => alone[round] / time));
  console.log(`${name.padEnd(24)} ${median(times).toFixed(1).padStart(6)} ms  ${ratio.toFixed(2)}x`);
}
process.exit(0); // sessions of onnxruntime keep the process for a while
