/** On js and wasm; on those that FOVEATE_TFJS_BACKENDS names, resolved from the folder FOVEATE_TFJS_FROM, where they are set. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import {
  defineReducer,
  InvalidArgumentError,
  referenceBackend,
  selectionPlan,
  type TensorBackend,
  type TokenReducer,
} from '@foveate/core';
import { createFastv } from '@foveate/fastv';
import { createFopruRank } from '@foveate/fopru-rank';
import { createFopruRow } from '@foveate/fopru-row';
import { createPooling, createRandom, createUniform } from '@foveate/pooling';
import { createPrumerge, createPrumergePlus } from '@foveate/prumerge';
import { loadBackend, type BackendName } from '@foveate/tfjs';
import { modelDirectory, questionsFile } from '@foveate/tiny-llava';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { Lvlm, type GenerateResult } from '../index.js';

const from = process.env.FOVEATE_TFJS_FROM;
const names = ['js', ...(process.env.FOVEATE_TFJS_BACKENDS ?? 'wasm').split(',')];

const half = { budget: { keepRatio: 0.5 } };
const quarter = { budget: { keepRatio: 0.25 } };
const calls: Record<string, TokenReducer[]> = {
  'no reducer': [],
  'fopru-rank': [createFopruRank(quarter)],
  'fopru-rank by mass': [createFopruRank({ budget: { attentionMass: 0.6 }, significance: 'received' })],
  'fopru-row': [createFopruRow(quarter)],
  prumerge: [createPrumerge()],
  'prumerge, paper': [createPrumerge({ ...quarter, preset: 'paper' })],
  'prumerge-plus': [createPrumergePlus()],
  'pooling by mean': [createPooling()],
  'pooling by maximum': [createPooling({ mode: 'max' })],
  uniform: [createUniform(quarter)],
  random: [createRandom(quarter)],
  'three stages': [createFopruRow(half), createFopruRank(half), createPrumerge(half)],
  'merged before merged': [createPooling(), createPrumergePlus(half)],
  'a stage inside the language model': [createFopruRank(half), createFastv({ layer: 1, ...half })],
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
const essence = ({ text, tokens, images, warnings }: GenerateResult): unknown => ({
  ...{ text, tokens, warnings },
  stages: images.map(({ stages }) =>
    stages.map(({ reducer, inputTokens, outputTokens, kept, plan }) => ({
      ...{ reducer, inputTokens, outputTokens, kept, anchors: [...plan.anchors] },
    })),
  ),
});

/** Asks for nothing but the number of tokens, and keeps the first. */
const broken = (plan: TokenReducer['plan']): TokenReducer =>
  defineReducer({
    ...{ specificationVersion: 1, name: 'broken', stage: 'vision', plan },
    requires: [{ signal: 'attentionReceived' }, { signal: 'keys' }],
  });

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
    const failures: [TokenReducer['plan'], string][] = [
      [
        async (tokens) => {
          await tokens.signal({ signal: 'attentionReceived' });
          throw new Error('enough');
        },
        'enough',
      ],
      [
        async (tokens) => selectionPlan(await tokens.nearest(Uint32Array.of(tokens.length), 1), 9),
        'of must be',
      ],
      [async () => selectionPlan([0], 9), 'broken made a plan for 9 tokens'],
    ];
    for (const [plan, message] of failures)
      await expect(answer(lvlm, questions[0], [broken(plan)])).rejects.toThrow(message);
    expect(tf.engine().state.numTensors).toBe(before);
    const { images } = await answer(lvlm, questions[0], [createUniform(quarter)]);
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
      nearestKeys: (...given) => {
        done.push('nearestKeys');
        return backend.nearestKeys(...given);
      },
      applyPlan: (...given) => {
        done.push('applyPlan');
        return backend.applyPlan(...given);
      },
    };
    await using counted = await Lvlm.load(modelDirectory, { backend: counting });
    await answer(counted, questions[0], calls['three stages']);
    expect(done).toEqual(['marginals', 'nearestKeys', 'applyPlan', 'applyPlan', 'applyPlan']);
  });
});

test('a backend that lacks operations is refused', async () => {
  const load = Lvlm.load(modelDirectory, { backend: { name: 'js' } as TensorBackend<unknown> });
  await expect(load).rejects.toThrow(InvalidArgumentError);
  await expect(load).rejects.toThrow('backend must be a TensorBackend');
});
