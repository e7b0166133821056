/**
 * What choosing tokens costs: FoPru's outputs of the graph, the round trip between the threads, the plan, and
 * its application, on the embedded model. Rows with and without it take turns in one run, and what is
 * reported is the median of their differences, round by round.
 */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { atFeatures, defineReducer, identityPlan, type TokenReducer } from '@foveate/core';
import { fopruRank } from '@foveate/fopru-rank';
import { Lvlm } from '@foveate/lvlm';
import { imagesDirectory, modelDirectory } from '@foveate/tiny-llava';

const ROUNDS = 200;
/** Calls before those that count: they open the graphs and have V8 compile. */
const WARM_UP = 100;

/** Asks for nothing and drops nothing: what remains is the cut graph and the round trip. */
const keepAll: TokenReducer = defineReducer({
  name: 'keep-all',
  at: [atFeatures],
  requires: {},
  plan: async ({ length }) => identityPlan(length),
});

const ROWS: Readonly<Record<string, readonly TokenReducer[]>> = {
  none: [],
  'keep all, no signals': [keepAll],
  'fopru-rank 100 %': [fopruRank({ keepRatio: 1 })],
  'fopru-rank 25 %': [fopruRank({ keepRatio: 0.25 })],
};

/** Milliseconds of one call, each row's in the order of the rounds. */
type Times = Record<'encoder' | 'decision' | 'both', number[]>;

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * share)];
}

async function measure(): Promise<Map<string, Times>> {
  await using lvlm = await Lvlm.load(modelDirectory);
  const names = (await readdir(imagesDirectory)).sort().slice(0, 20);
  const images = await Promise.all(names.map((name) => readFile(path.join(imagesDirectory, name))));
  const rows = Object.entries(ROWS);
  const times = new Map<string, Times>(rows.map(([name]) => [name, { encoder: [], decision: [], both: [] }]));
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    const image = images.at(round % images.length) ?? images[0];
    const order = round % 2 === 0 ? rows : rows.toReversed();
    for (const [name, reducers] of order) {
      const { timings } = await lvlm.generate({
        images: [image],
        prompt: 'what is this ?',
        reducers,
        maxNewTokens: 1,
      });
      if (round < 0) continue;
      const { encoder, decision, both } = times.get(name) ?? { encoder: [], decision: [], both: [] };
      encoder.push(timings.visionMs);
      decision.push(timings.reduceMs);
      both.push(timings.visionMs + timings.reduceMs);
    }
  }
  return times;
}

const times = await measure();
const none = times.get('none');
console.log(`Embedded model, ${ROUNDS} rounds, milliseconds a call (median)`);
console.table(
  Object.fromEntries(
    Array.from(times, ([name, { encoder, decision, both }]) => {
      const more = both.map((value, round) => value - (none?.both[round] ?? NaN));
      return [
        name,
        {
          encoder: quantile(encoder, 0.5).toFixed(2),
          'round trip, plan, apply': quantile(decision, 0.5).toFixed(2),
          'overhead, median': quantile(more, 0.5).toFixed(2),
          'lower quartile': quantile(more, 0.25).toFixed(2),
          'upper quartile': quantile(more, 0.75).toFixed(2),
        },
      ];
    }),
  ),
);
