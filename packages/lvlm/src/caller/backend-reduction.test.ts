/**
 * On js and wasm; on those that FOVEATE_TFJS_BACKENDS names, resolved from the folder FOVEATE_TFJS_FROM,
 * where they are set.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import {
  atFeatures,
  attentionReceived,
  defineReducer,
  InvalidArgumentError,
  keys,
  similarityBy,
  referenceBackend,
  selectionPlan,
  type ReductionPlan,
  type TensorBackend,
  type TokenReducer,
  type VisualTokens,
} from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { fopruRow } from '@foveate/fopru-row';
import { random, uniform } from '@foveate/baselines';
import { pooling } from '@foveate/pooling';
import { prumerge, prumergePlus } from '@foveate/prumerge';
import { loadBackend, type BackendName } from '@foveate/tfjs';
import { vispruner } from '@foveate/vispruner';
import { visionzip } from '@foveate/visionzip';
import { modelDirectory, questionsFile } from '@foveate/tiny-llava';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { Lvlm, type GenerateResult } from '../index.js';

const from = process.env.FOVEATE_TFJS_FROM;
const names = ['js', ...(process.env.FOVEATE_TFJS_BACKENDS ?? 'wasm').split(',')];

const half = { keepRatio: 0.5 };
const quarter = { keepRatio: 0.25 };
const calls: Record<string, TokenReducer[]> = {
  'no reducer': [],
  'fopru-rank': [fopruRank(quarter)],
  'fopru-rank by mass': [fopruRank({ attentionMass: 0.6, significance: 'received' })],
  'fopru-row': [fopruRow(quarter)],
  prumerge: [prumerge()],
  'prumerge, paper': [prumerge({ ...quarter, preset: 'paper' })],
  'prumerge-plus': [prumergePlus()],
  visionzip: [visionzip(quarter)],
  vispruner: [vispruner(quarter)],
  'pooling by mean': [pooling()],
  'pooling by maximum': [pooling({ mode: 'max' })],
  uniform: [uniform(quarter)],
  random: [random(quarter)],
  'three steps': [fopruRow(half), fopruRank(half), prumerge(half)],
  'merged before merged': [pooling(), prumergePlus(half)],
  'a step inside the language model': [fopruRank(half), fastv({ layer: 1, ...half })],
};

interface Question {
  readonly image: string;
  readonly question: string;
}

/** Three of the shipped questions, far apart. */
async function readQuestions(): Promise<Question[]> {
  const lines = (await readFile(questionsFile, 'utf8')).trim().split('\n');
  return [0, 400, 900].map((index) => {
    const { image, question } = JSON.parse(lines[index]) as Question;
    return { image: path.join(path.dirname(questionsFile), image), question };
  });
}

const answer = (
  lvlm: Lvlm,
  { image, question }: Question,
  reducers: readonly TokenReducer[],
): Promise<GenerateResult> => lvlm.generate({ images: [image], prompt: question, reducers, maxNewTokens: 8 });

/** What must not depend on where a reduction is computed. */
const essence = ({ text, tokenIds, images, warnings }: GenerateResult): unknown => ({
  ...{ text, tokenIds, warnings },
  steps: images.map(({ crops }) =>
    crops[0].steps.map(({ reducer, inputTokens, outputTokens, kept, plan }) => ({
      ...{ reducer, inputTokens, outputTokens, kept, anchors: [...plan.anchors] },
    })),
  ),
});

const signals = { received: attentionReceived(), similar: similarityBy(keys()) };

const broken = (plan: (tokens: VisualTokens<typeof signals>) => Promise<ReductionPlan>): TokenReducer =>
  defineReducer({ name: 'broken', at: [atFeatures], requires: signals, plan });

let plain: Lvlm;
let questions: Question[];
beforeAll(async () => {
  plain = await Lvlm.load(modelDirectory);
  questions = await readQuestions();
});
afterAll(() => plain.dispose());

describe.each(names)('on %s', (name) => {
  let backend: TensorBackend<unknown>;
  let lvlm: Lvlm;
  beforeAll(async () => {
    backend =
      name === 'js'
        ? referenceBackend
        : (await loadBackend({ prefer: [name as BackendName], ...(from !== undefined && { from }) })).backend;
    lvlm = await Lvlm.load(modelDirectory, { backend });
  });
  afterAll(() => lvlm.dispose());

  it.each(Object.keys(calls))('%s: the same answers as in the graph, and no tensor is left', async (call) => {
    for (const question of questions) {
      const before = tf.engine().state.numTensors;
      const result = await answer(lvlm, question, calls[call]);
      expect(tf.engine().state.numTensors).toBe(before);
      expect(essence(result), question.image).toEqual(essence(await answer(plain, question, calls[call])));
    }
  });

  it('what fails leaves no tensor, and the model goes on', async () => {
    const before = tf.engine().state.numTensors;
    const failures: [Parameters<typeof broken>[0], string][] = [
      [async () => Promise.reject(new Error('enough')), 'enough'],
      [
        async ({ length, signals: { similar } }) =>
          selectionPlan(await similar.nearest(Uint32Array.of(length), 1), 9),
        'of must be',
      ],
      [async () => selectionPlan([0], 9), 'broken made a plan for 9 tokens'],
    ];
    for (const [plan, message] of failures)
      await expect(answer(lvlm, questions[0], [broken(plan)])).rejects.toThrow(message);
    expect(tf.engine().state.numTensors).toBe(before);
    const { images } = await answer(lvlm, questions[0], [uniform(quarter)]);
    expect(images[0].outputTokens).toBe(images[0].inputTokens / 4);
  });

  it('computes there, and reads a map once', async () => {
    const done: string[] = [];
    const counting: TensorBackend<unknown> = {
      ...backend,
      marginals: (...given) => {
        done.push('marginals');
        return backend.marginals(...given);
      },
      nearest: (...given) => {
        done.push('nearest');
        return backend.nearest(...given);
      },
      applyPlan: (...given) => {
        done.push('applyPlan');
        return backend.applyPlan(...given);
      },
    };
    await using counted = await Lvlm.load(modelDirectory, { backend: counting });
    await answer(counted, questions[0], calls['three steps']); // neighbours among carried rows are found in plain JS
    expect(done.splice(0)).toEqual(['marginals', 'applyPlan', 'applyPlan', 'applyPlan']);
    await answer(counted, questions[0], calls.prumerge);
    expect(done).toEqual(['nearest', 'applyPlan']);
  });
});

test('a backend that lacks operations is refused', async () => {
  const load = Lvlm.load(modelDirectory, { backend: { name: 'js' } as TensorBackend<unknown> });
  await expect(load).rejects.toThrow(InvalidArgumentError);
  await expect(load).rejects.toThrow('backend must be a TensorBackend');
});
