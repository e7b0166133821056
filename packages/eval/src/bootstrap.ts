/** Intervals by resampling the questions of a run. */
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { quantile } from './statistics.js';

/**
 * The 95 % interval of the mean of values, one a question, in the order of the questions that were resampled.
 */
export type BootstrapInterval = (values: readonly number[]) => [lower: number, upper: number];

/** Draws of the questions with replacement. More of them move no bound by a tenth of a point. */
export const RESAMPLES: number = 10_000;

/**
 * Resamples questions once, so that all rows of a table are put to the same draws: the interval of a
 * difference between two rows is then that of paired answers. Each kind is resampled on its own, because a
 * run draws each with its share. Percentile method: B. Efron and R. J. Tibshirani, An Introduction to the
 * Bootstrap, 1993, chapter 13.
 * @param strata what each question is drawn among, e.g. its kind; at least one question
 * @param seed of the draws, an integer
 */
export function createBootstrap(
  strata: readonly string[],
  seed: number,
  resamples: number = RESAMPLES,
): BootstrapInterval {
  const pools = poolsOf(strata); // [n]
  const random = xoroshiro128plus(seed);
  const drawn = new Uint32Array(resamples * strata.length); // [resamples, n]
  for (let i = 0; i < drawn.length; i++) {
    const pool = pools[i % pools.length];
    drawn[i] = pool[uniformInt(random, 0, pool.length - 1)];
  }
  return (values) => {
    const means = new Float64Array(resamples);
    for (let resample = 0, i = 0; resample < resamples; resample++) {
      let sum = 0;
      for (const end = i + strata.length; i < end; i++) sum += values[drawn[i]];
      means[resample] = sum / strata.length;
    }
    means.sort();
    return [quantile(means, 0.025), quantile(means, 0.975)];
  };
}

/** For each question those of its own stratum. */
function poolsOf(strata: readonly string[]): number[][] {
  const pools = new Map<string, number[]>();
  return strata.map((stratum, question) => {
    const pool = pools.get(stratum) ?? [];
    pools.set(stratum, pool);
    pool.push(question);
    return pool;
  });
}
