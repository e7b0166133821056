/**
 * Compares budgets that choose themselves (the fewest tokens that hold a share of the significance) with a
 * fixed number of tokens that is as large on average, and writes what came out into the README
 * of @foveate/fopru-rank. What is ranked by is chosen on a development split; the shipped questions are asked
 * once, with the rule that was chosen. See README.md beside this file.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import * as prettier from 'prettier';

/** @typedef {{ reducer: string, keptTokens: number, accuracy: number, questions: number }} Row */
/**
 * @typedef {{ reducer: string, other: string, difference: number, ci95: [number, number], pHolm: number }}
 * Comparison
 */
/** @typedef {{ rows: Row[], comparisons: Comparison[] }} Summary */

const root = fileURLToPath(new URL('../..', import.meta.url));
const command = path.join(root, 'apps/ablation/bin/foveate.js');
const readme = path.join(root, 'packages/fopru-rank/README.md');

const SIGNIFICANCES = ['variance', 'low-variance', 'given', 'received'];
const MASSES = [0.3, 0.5, 0.7, 0.8, 0.9];

/** @param {string} significance @param {string} budget */
const spec = (significance, budget) => `fopru-rank:${budget}:significance=${significance}`;
/** What a fixed number is taken by: FoPru as the paper has it. @param {Row} row of as many tokens */
const fixed = ({ keptTokens }) => `fopru-rank:count=${Math.max(1, Math.round(keptTokens))}`;

const { values } = parseArgs({
  options: {
    dev: { type: 'string' },
    out: { type: 'string' },
    limit: { type: 'string', default: '480' },
    'shipped-limit': { type: 'string', default: '0' },
  },
});
if (!values.dev || !values.out) {
  console.error(
    'Usage: compare-budgets.js --dev DEV/questions.jsonl --out DIR [--limit 480] [--shipped-limit 0]',
  );
  process.exit(2);
}
const { dev, out } = { dev: values.dev, out: values.out };

/**
 * Runs a comparison; one that a killed run left is gone on with.
 * @param {string} name
 * @param {string[]} specs
 * @param {string[]} options
 * @returns {Summary}
 */
function ablate(name, specs, options) {
  const folder = path.join(out, name);
  const args = ['ablate', '--reducers', specs.join(','), '--out', folder, '--format', 'json', '--resume'];
  console.error(`${name}: ${specs.length} rows`);
  const { status, stdout } = spawnSync(process.execPath, [command, ...args, ...options], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) process.exit(status ?? 1); // it has said why
  return JSON.parse(stdout);
}

/** @param {Summary} summary @param {string} reducer @returns {Row} */
function rowOf({ rows }, reducer) {
  const found = rows.find((row) => row.reducer === reducer);
  if (!found) throw new Error(`There is no row ${reducer}.`);
  return found;
}

/**
 * The significance whose budgets by mass gain most over fixed numbers, on average over the masses.
 * @returns {{ chosen: string, gains: [string, number][], questions: number }}
 */
function chooseOnDevelopmentSplit() {
  const options = ['--data', path.resolve(dev), '--limit', values.limit];
  const byMass = ablate(
    'dev-mass',
    SIGNIFICANCES.flatMap((significance) => MASSES.map((mass) => spec(significance, `mass=${mass}`))),
    options,
  );
  const byCount = ablate('dev-count', [...new Set(byMass.rows.map(fixed))], options);
  const gains = SIGNIFICANCES.map((significance) => {
    const differences = MASSES.map((mass) => {
      const row = rowOf(byMass, spec(significance, `mass=${mass}`));
      return row.accuracy - rowOf(byCount, fixed(row)).accuracy;
    });
    return /** @type {[string, number]} */ ([
      significance,
      differences.reduce((sum, difference) => sum + difference, 0) / MASSES.length,
    ]);
  });
  const [chosen] = gains.reduce((best, gain) => (gain[1] > best[1] ? gain : best));
  return { chosen, gains, questions: byMass.rows[0].questions };
}

/**
 * The chosen rule on the shipped questions. How many tokens it keeps there is known by the images alone,
 * before any answer counts.
 * @param {string} significance
 */
function reportOnShippedSet(significance) {
  const options = ['--limit', values['shipped-limit']];
  const byMass = MASSES.map((mass) => spec(significance, `mass=${mass}`));
  const { rows } = ablate('shipped-tokens', byMass, options);
  const summary = ablate('shipped', [...new Set(['none', ...byMass, ...rows.map(fixed)])], options);
  return byMass.map((reducer) => {
    const adaptive = rowOf(summary, reducer);
    const other = rowOf(summary, fixed(adaptive));
    const pair = summary.comparisons.find(({ reducer: better, other: worse }) =>
      [better, worse].every((name) => name === reducer || name === other.reducer),
    );
    const sign = pair?.reducer === reducer ? 1 : -1;
    const interval = pair?.ci95.map((bound) => bound * sign).sort((a, b) => a - b);
    return { adaptive, other, interval, p: pair?.pHolm };
  });
}

/** @param {number} share */
const percent = (share) => (share * 100).toFixed(1);
/** @param {number} share */
const signed = (share) => `${share > 0 ? '+' : ''}${percent(share)}`;

const { chosen, gains, questions } = chooseOnDevelopmentSplit();
const results = reportOnShippedSet(chosen);
const lines = [
  `Chosen on ${questions} questions of a development split: \`significance=${chosen}\`. Points gained there over a fixed number of as many tokens on average: ${gains.map(([name, gain]) => `${name} ${signed(gain)}`).join(', ')}. On the ${results[0].adaptive.questions} shipped questions, asked once:`,
  '',
  '| by mass | tokens on average | right % | fixed number | right % | points | 95 % | p |',
  '| --- | --: | --: | --- | --: | --: | --: | --: |',
  ...results.map(({ adaptive, other, interval, p }) => {
    const cells = [
      `\`${adaptive.reducer}\``,
      adaptive.keptTokens.toFixed(1),
      percent(adaptive.accuracy),
      `\`${other.reducer}\``,
      percent(other.accuracy),
      signed(adaptive.accuracy - other.accuracy),
      interval?.map(signed).join(' to ') ?? '-',
      p?.toFixed(3) ?? '-',
    ];
    return `| ${cells.join(' | ')} |`;
  }),
  '',
  `Differences that mean something (McNemar's test, Holm's p below 0.05): ${results.filter(({ p }) => p !== undefined && p < 0.05).length} of ${results.length}.`,
];

const [start, end] = ['<!-- budgets:start -->', '<!-- budgets:end -->'];
const text = readFileSync(readme, 'utf8');
const [before, after] = [text.indexOf(start), text.indexOf(end)];
if (before < 0 || after < before)
  throw new Error(`${readme} has no place for the table: ${start} ... ${end}.`);
const written = `${text.slice(0, before)}${start}\n\n${lines.join('\n')}\n\n${text.slice(after)}`;
const style = { ...(await prettier.resolveConfig(readme)), filepath: readme };
writeFileSync(readme, await prettier.format(written, style));
console.log(lines.join('\n'));
