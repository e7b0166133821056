/** Against what the official code gave: fixtures/README.md says which, and how. */
import {
  applyPlan,
  createTokens,
  hiddenStates,
  planTokens,
  questionAttention,
  questionRelevance,
  questionStates,
  type ReductionPlan,
  type TokenReducer,
  type TokenSource,
} from '@foveate/core';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { attentionRank, chooseRaters, scoreTokens } from './scores.js';
import { sparsevlm } from './sparsevlm.js';
import { clusterTokens, splitTokens, stagePlan } from './stage.js';

interface Stage {
  readonly attention: string;
  readonly kept: readonly number[];
  readonly clusters: number;
  readonly merged: string;
}
interface Case {
  readonly visual: string;
  readonly question: string;
  readonly raters: readonly number[];
  readonly stages: readonly Stage[];
}
interface Cases {
  readonly lists: Case;
  readonly overBudget: Case;
  readonly rank: {
    readonly raters: readonly number[];
    readonly questionTokens: number;
    readonly stages: readonly Stage[];
  };
  readonly clustering: { readonly tokens: string; readonly noise: string; readonly merged: string };
}

const cases = JSON.parse(
  readFileSync(new URL('../fixtures/official-cases.json', import.meta.url), 'utf8'),
) as Cases;
const width = 16;

function read(text: string): Float32Array {
  return new Float32Array(new Uint8Array(Buffer.from(text, 'base64')).buffer);
}

/** [rows, N] -> [N, T], where tokens that are no raters pay the more the less they should be asked. */
function attentionOf(stage: Stage, raters: readonly number[], questionTokens: number): Float32Array {
  const rows = read(stage.attention);
  const length = rows.length / raters.length;
  const values = new Float32Array(length * questionTokens).map((_, i) => i / (length * questionTokens));
  for (const [row, rater] of raters.entries()) {
    for (let token = 0; token < length; token++)
      values[token * questionTokens + rater] = rows[row * length + token];
  }
  return values;
}

/** Softmax over the question of visual . question, mean over the visual tokens, written out. */
function relevanceOf(visual: Float32Array, question: Float32Array): Float32Array {
  const sums = new Float64Array(question.length / width);
  for (let v = 0; v < visual.length; v += width) {
    const products = sums.map((_, t) => {
      let product = 0;
      for (let c = 0; c < width; c++) product += visual[v + c] * question[t * width + c];
      return Math.exp(product);
    });
    const total = products.reduce((sum, product) => sum + product, 0);
    for (const t of sums.keys()) sums[t] += products[t] / total / (visual.length / width);
  }
  return Float32Array.from(sums);
}

/** As inside the language model, before `layer`. */
function tokensBefore(
  layer: number,
  { states, attention, relevance }: Record<'states' | 'attention' | 'relevance', Float32Array>,
  entered: number,
): TokenSource {
  return createTokens({
    length: states.length / width,
    entered,
    signals: [
      { ...questionRelevance(), values: relevance },
      { ...questionAttention({ layer: layer - 1 }), values: attention },
      { ...hiddenStates({ layer: layer - 1 }), values: states },
      { ...questionStates({ layer: layer - 1 }), values: new Float32Array(relevance.length * width) },
    ],
  });
}

function planStage(reducer: TokenReducer, tokens: TokenSource, stage: number): Promise<ReductionPlan> {
  return planTokens(reducer, tokens, reducer.at[stage], stage);
}

function expectClose(actual: Float32Array, expected: Float32Array): void {
  expect(actual.length).toBe(expected.length);
  for (const [i, value] of expected.entries()) {
    expect(Math.abs(actual[i] - value)).toBeLessThan(2e-4 * Math.abs(value) + 2e-6);
  }
}

/** One relevance for raters, a lower one for the others. */
function relevanceFor(raters: readonly number[], questionTokens: number): Float32Array {
  return new Float32Array(questionTokens).map((_, token) => (raters.includes(token) ? 0.2 : 0.1));
}

describe('official cases', () => {
  it('keeps, recycles and merges as v1.5 does at 64 tokens, stage behind stage', async () => {
    const { visual, question, raters, stages } = cases.lists;
    const relevance = relevanceOf(read(visual), read(question));
    expect(chooseRaters(relevance)).toEqual({ raters, warnings: [] });
    const reducer = sparsevlm({ keepCount: 64 });
    let states = read(visual);
    for (const [i, stage] of stages.entries()) {
      const attention = attentionOf(stage, raters, relevance.length);
      const tokens = tokensBefore([3, 7, 16][i], { states, attention, relevance }, 576);
      const plan = await planStage(reducer, tokens, i);
      expect([...plan.anchors.subarray(0, stage.kept.length)]).toEqual(stage.kept);
      expect(plan.outputLength).toBe(stage.kept.length + stage.clusters);
      states = applyPlan(plan, states);
      expectClose(states.subarray(stage.kept.length * width), read(stage.merged));
    }
    expect(states.length / width).toBe(18);
  });

  it('counts by the rank of the raters’ attention as v1.0 does', async () => {
    const { raters, questionTokens, stages } = cases.rank;
    const reducer = sparsevlm({ version: '1.0' });
    const relevance = relevanceFor(raters, questionTokens);
    const lengths: number[] = [];
    for (const [i, stage] of stages.entries()) {
      const attention = attentionOf(stage, raters, questionTokens);
      const length = attention.length / questionTokens;
      expect(attentionRank(attention, raters, length)).toBe(5);
      const states = new Float32Array(length * width).map((_, at) => Math.sin(at));
      const tokens = tokensBefore([3, 7, 16, 20][i], { states, attention, relevance }, 576);
      const plan = await planStage(reducer, tokens, i);
      expect([...plan.anchors.subarray(0, stage.kept.length)]).toEqual(stage.kept);
      expect(plan.outputLength).toBe(stage.kept.length + stage.clusters);
      lengths.push(plan.outputLength);
    }
    expect(lengths).toEqual([83, 68, 68, 68]);
  });

  it('clusters as cluster_and_merge does, with its noise and without', async () => {
    const tokens = read(cases.clustering.tokens);
    const length = tokens.length / width;
    const split = {
      kept: new Uint32Array(0),
      recycled: Uint32Array.from({ length }, (_, i) => i),
      clusters: 9,
    };
    for (const amplitude of [0, 1e-6]) {
      const noise = read(cases.clustering.noise).map((value) => value * amplitude);
      const clusters = await clusterTokens(statesOf(tokens), width, split, noise);
      const plan = stagePlan(split.kept, clusters, { length, spans: [{ start: 0, length }], warnings: [] });
      expectClose(applyPlan(plan, tokens), read(cases.clustering.merged));
    }
  });

  it('does the same where a list asks for more than there are, but leaves the tokens as they are', async () => {
    const { visual, question, raters, stages } = cases.overBudget;
    const states = read(visual);
    const length = states.length / width;
    const relevance = relevanceOf(states, read(question));
    expect(chooseRaters(relevance).raters).toEqual(raters);
    const rows = Array.from(relevance.keys());
    const attention = attentionOf(stages[0], rows, relevance.length);
    const split = splitTokens(scoreTokens(attention, raters, length), length - 1);
    expect([...split.kept]).toEqual(stages[0].kept);
    const clusters = await clusterTokens(statesOf(states), width, split, [0]);
    const official = stagePlan(split.kept, clusters, { length, spans: [{ start: 0, length }], warnings: [] });
    expectClose(applyPlan(official, states).subarray(63 * width), read(stages[0].merged));

    const plan = await planTokens(
      sparsevlm({ keepCount: 192 }),
      tokensBefore(3, { states, attention, relevance }, 64),
    );
    expect([...plan.sources]).toEqual(Array.from({ length }, (_, token) => token));
    expect(plan.weights).toBeUndefined();
    expect(plan.warnings).toEqual(['keepCount 192 is more than the 64 tokens there are: all kept']);
  });
});

/** Dot products in float64, as the only thing that is asked. */
function statesOf(states: Float32Array): Parameters<typeof clusterTokens>[0] {
  const refuse = (): never => {
    throw new Error('not asked');
  };
  return {
    nearest: refuse,
    cosines: refuse,
    dots: async (to) =>
      Float32Array.from(
        Array.from(to as Uint32Array).flatMap((token) =>
          Array.from({ length: states.length / width }, (_, other) => {
            let sum = 0;
            for (let c = 0; c < width; c++) sum += states[token * width + c] * states[other * width + c];
            return sum;
          }),
        ),
      ),
  };
}
