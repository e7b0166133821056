import type { Summary, SummaryRow } from '@foveate/eval';
import { describe, expect, it } from 'vitest';
import { formatSummary } from './table.js';

/** Of one step but for `none`, which keeps as many tokens as it reads. */
function row(reducer: string, changes: Partial<SummaryRow> = {}): SummaryRow {
  const { keptTokens = 64 } = changes;
  const steps = reducer === 'none' ? [] : [{ reducer: 'method', keptTokens }];
  return {
    reducer,
    ...{
      keep: 0.25,
      keptTokens: 64,
      equivalentTokens: keptTokens,
      steps,
      againstNone: null,
      questions: 300,
      accuracy: 0.9,
      ci95: [0.86, 0.93],
    },
    ordinary: { n: 260, accuracy: 0.95 },
    byKind: { presence: { n: 260, accuracy: 0.95 }, crowded: { n: 40, accuracy: 0.575 } },
    ...{ ttftMs: 12.345, visionMs: 3, reduceMs: 0.5, prefillMs: 4, tpotMs: 1.236, kvBytes: 549_120 },
    ...{ peakRssBytes: 150_000_000, warnings: [] },
    ...changes,
  };
}

const summary: Summary = {
  model: {
    ...{ directory: '/m', sha256: 'm', modelType: 'llava', layers: 6, kvHeads: 5, headDim: 32 },
    dtypes: { vision_encoder: 'fp32', embed_tokens: 'fp32', decoder_model_merged: 'fp32' },
    device: 'cpu',
  },
  data: { file: '/d', sha256: 'd', questions: 1088, limit: 300 },
  ...{
    seed: 0,
    preset: null,
    omitted: [],
    equalBy: 'keptTokens',
    interval: 'bootstrap',
    resamples: 10_000,
    latencyQuestions: 31,
    comparisons: [],
    backend: 'onnx',
    per: 'crop',
    skipped: { questions: 0, images: [] },
  },
  machine: {
    ...{ platform: 'linux', arch: 'x64', cpu: 'A CPU', cores: 2, memoryBytes: 1 },
    versions: { node: '20.0.0', onnxruntime: '1.30.0', foveate: '1.0.0' },
  },
  rows: [
    row('none', { keep: 1, keptTokens: 256, accuracy: 1, ci95: [0.987, 1], tpotMs: null }),
    row('fopru-row:keep=0.11', { keep: 0.0625, keptTokens: 16, peakRssBytes: null }),
    row('fopru-row:keep=0.06', { keep: 0.0625, keptTokens: 16, warnings: ['rows are whole'] }),
    row('fopru-row:significance=given:keep=0.06', { keep: 0.0625, keptTokens: 16 }),
  ],
};

const difference = {
  difference: -0.1,
  ci95: [-0.15, -0.05],
  onlyThis: 3,
  onlyOther: 33,
  p: 1e-7,
  pHolm: 2e-7,
} as const;

/** The lines of a table of the Markdown, head first, its rule left out. */
function tableUnder(caption: string, text: string): string[] {
  const lines = text.split('\n');
  const start = lines.indexOf(`**${caption}**`) + 2;
  const table = lines.slice(start, lines.indexOf('', start));
  return table.filter((_, line) => line !== 1);
}

describe('formatSummary', () => {
  it('as Markdown: tokens and accuracy, time and memory, kinds', () => {
    const text = formatSummary(summary, 'md');
    expect(tableUnder('Tokens and accuracy', text)).toEqual([
      '| reducer | tokens | kept % | right % | 95 % | to none | 95 % | p |',
      '| `none` | 256 | 100 | 100.0 | 98.7-100.0 |  |  |  |',
      '| `fopru-row:keep=0.11` | 16 | 6.3 | 90.0 | 86.0-93.0 |  |  |  |',
      '| `fopru-row:keep=0.06` | 16 | 6.3 | 90.0 | 86.0-93.0 |  |  |  |',
      '| `fopru-row:significance=given:keep=0.06` | 16 | 6.3 | 90.0 | 86.0-93.0 |  |  |  |',
    ]);
    expect(tableUnder('Time and memory', text)[2]).toBe(
      '| `fopru-row:keep=0.11` | 12.3 | 1.00 | 0.5 | 4.0 | 1.00 | 1.24 | - | 0.55 | 1.00 | - | - |',
    );
    expect(tableUnder('Right answers by kind of question', text).slice(0, 2)).toEqual([
      '| right % | presence (260) | crowded (40) |',
      '| `none` | 95.0 | 57.5 |',
    ]);
  });

  it('has nothing to compare with where no row keeps every token', () => {
    const text = formatSummary({ ...summary, rows: summary.rows.slice(1, 2) }, 'md');
    expect(tableUnder('Tokens and accuracy', text)).toEqual([
      '| reducer | tokens | kept % | right % | 95 % |',
      '| `fopru-row:keep=0.11` | 16 | 6.3 | 90.0 | 86.0-93.0 |',
    ]);
    expect(tableUnder('Time and memory', text)).toEqual([
      '| reducer | TTFT ms | reduce ms | prefill ms | TPOT ms | KV MB | peak MB |',
      '| `fopru-row:keep=0.11` | 12.3 | 0.5 | 4.0 | 1.24 | 0.55 | - |',
    ]);
  });

  it('says how each row differs from none, how many times as fast it is, and what each step left', () => {
    const steps = [
      { reducer: 'fopru-rank', keptTokens: 128 },
      { reducer: 'fastv', keptTokens: 64 },
    ];
    const rows = [
      row('none', { keptTokens: 256, equivalentTokens: 256 }),
      row('fopru-rank:keep=0.5+fastv:keep=0.5', {
        ...{ steps, equivalentTokens: 85.33, againstNone: difference },
        ...{ ttftMs: 12.345 / 2, kvBytes: 549_120 / 4, peakRssBytes: null },
      }),
      row('uniform:keep=0.25', {
        steps: steps.slice(0, 1),
        againstNone: { ...difference, difference: 0.012, ci95: [-0.01, 0.03], pHolm: 0.0504 },
      }),
    ];
    const text = formatSummary({ ...summary, rows }, 'md');
    expect(tableUnder('Tokens and accuracy', text)).toEqual([
      '| reducer | tokens | T | kept % | right % | 95 % | to none | 95 % | p |',
      '| `none` | 256 | 256 | 25 | 90.0 | 86.0-93.0 |  |  |  |',
      '| `fopru-rank:keep=0.5+fastv:keep=0.5` | 128 > 64 | 85.3 | 25 | 90.0 | 86.0-93.0 | -10.0* | -15.0 to -5.0 | <0.001 |',
      '| `uniform:keep=0.25` | 64 | 64 | 25 | 90.0 | 86.0-93.0 | +1.2 | -1.0 to +3.0 | 0.050 |',
    ]);
    expect(tableUnder('Time and memory', text)).toEqual([
      '| reducer | TTFT ms | TTFT x | reduce ms | prefill ms | prefill x | TPOT ms | TPOT x | KV MB | KV x | peak MB | peak x |',
      '| `none` | 12.3 | 1.00 | 0.5 | 4.0 | 1.00 | 1.24 | 1.00 | 0.55 | 1.00 | 150 | 1.00 |',
      '| `fopru-rank:keep=0.5+fastv:keep=0.5` | 6.2 | 2.00 | 0.5 | 4.0 | 1.00 | 1.24 | 1.00 | 0.14 | 4.00 | - | - |',
      '| `uniform:keep=0.25` | 12.3 | 1.00 | 0.5 | 4.0 | 1.00 | 1.24 | 1.00 | 0.55 | 1.00 | 150 | 1.00 |',
    ]);
    expect(text).toContain('T: visual tokens that a layer');
  });

  it('names the pairs of equally many tokens that differ, and counts the others', () => {
    const comparisons = [
      { reducer: 'a', other: 'b', ...difference, difference: 0.1, ci95: [0.05, 0.15] as const },
      { reducer: 'c', other: 'd', ...difference, pHolm: 0.05 },
    ];
    const text = formatSummary({ ...summary, comparisons }, 'md');
    expect(tableUnder('Rows of equally many tokens that differ', text)).toEqual([
      '| better | than | points | 95 % | only first | only second | p |',
      '| `a` | b | +10.0 | +5.0 to +15.0 | 3 | 33 | <0.001 |',
    ]);
    expect(text).toContain('equally many tokens (within a tenth): 2; more apart than by chance: 1.');
  });

  it("prints a preset's own names, relative accuracy and the cells of the paper", () => {
    const byKind = { presence: { n: 260, accuracy: 0.475 }, crowded: { n: 40, accuracy: 0 } };
    const rows = [
      row('none'),
      row('fopru-rank:keep=0.25', { steps: [{ reducer: 'r', keptTokens: 64 }], byKind }),
    ];
    const text = formatSummary({ ...summary, rows, preset: 'table4' }, 'md');
    expect(tableUnder('Right answers relative to none', text)).toEqual([
      '| % of none | presence (260) | crowded (40) | all |',
      '| `none` | 100.0 | 100.0 | 100.0 |',
      '| `fopru-rank:keep=0.25` | 50.0 | 0.0 | 100.0 |',
    ]);
    const ofPaper = tableUnder("The paper's Table 4, LLaVA-1.6-7B", text);
    expect(ofPaper).toHaveLength(8);
    expect(ofPaper.at(-1)).toBe(
      '| `FoPru rank 25 %` | 64.35 | 60.81 | 62.26 | 36.67 | 72.39 | 86.83 | 44.60 | 61.13 |',
    );
    expect(tableUnder('The same relative to all tokens, LLaVA-1.6-7B', text).at(-1)).toContain(
      '| 96.7 | 93.7 | 96.9 |', // 64.35 / 66.58, 60.81 / 64.90, 62.26 / 64.24
    );
    expect(text).toContain('Avg of rank at 50 % is as printed; its cells average 64.03.');

    const ablation = formatSummary({ ...summary, rows, preset: 'table3' }, 'md');
    expect(tableUnder('Tokens and accuracy', ablation)[2]).toContain(
      '| `fopru-rank:keep=0.25` | full | 64 |',
    );
    expect(ablation).not.toContain('arXiv');
  });

  it('has no name of the paper for a row that is named like a member of every object', () => {
    const rows = [row('none'), row('constructor')];
    const text = formatSummary({ ...summary, rows, preset: 'table3' }, 'md');
    expect(tableUnder('Tokens and accuracy', text)[2]).toContain('| `constructor` |  | 64 |');
  });

  describe('of all methods', () => {
    const names = ['visionzip', 'divprune', 'vispruner', 'fastv:layer=1'];
    const methods: Summary = {
      ...{ ...summary, preset: 'methods', equalBy: 'equivalentTokens' },
      omitted: [{ reducer: 'tome', reason: 'Its encoder is another.' }],
      comparisons: [{ reducer: 'a', other: 'b', ...difference }],
      rows: [
        row('none', { keptTokens: 576, equivalentTokens: 576 }),
        ...names.map((name, index) =>
          row(`${name}:keep=0.2223`, { equivalentTokens: 128 - index, accuracy: 0.8 - index / 100 }),
        ),
        row('random:keep=0.2223', { draws: { n: 5, lowest: 0.7, mean: 0.75, highest: 0.8 } }),
      ],
    };

    it('has the spread of draws, what is left out and why, and no peak that nobody measured', () => {
      const text = formatSummary(methods, 'md');
      const table = tableUnder('Tokens and accuracy', text);
      expect(table[0]).toContain('| 95 % | draws % |');
      expect(table[1]).toContain('| 86.0-93.0 |  |');
      expect(table.at(-1)).toContain('| 86.0-93.0 | 70.0-75.0-80.0 |');
      expect(text).toContain('Left out: tome. Its encoder is another.');
      expect(text).toContain('share answered rightly over 5 seeds');
      expect(tableUnder('Time and memory', text)[0]).toMatch(/\| KV MB \| KV x \|$/);
      expect(text).not.toContain('Peak:');
      expect(text).toContain('Pairs of rows whose layers read equally many tokens (within a tenth): 1;');
    });

    it('sets its order beside the published one', () => {
      const text = formatSummary(methods, 'md');
      expect(tableUnder('Our order beside the published one, at 128 of 576 tokens', text)).toEqual([
        '| reducer | right % | place | published % | published place |',
        '| `visionzip:keep=0.2223` | 80.0 | 1 | 95.6 | 3 |',
        '| `divprune:keep=0.2223` | 79.0 | 2 | 96.3 | 1 |',
        '| `vispruner:keep=0.2223` | 78.0 | 3 | 96.3 | 1 |',
        '| `fastv:layer=1:keep=0.2223` | 77.0 | 4 | 91.8 | 4 |',
      ]);
      // Ranks 4, 3, 2, 1 and 2, 3.5, 3.5, 1, centred 1.5, .5, -.5, -1.5 and -.5, 1, 1, -1.5:
      // -.75 + .5 - .5 + 2.25 = 1.5 over sqrt(5 * 4.5)
      const rho = 1.5 / Math.sqrt(22.5);
      const half = 1.959964 * Math.sqrt(1 + rho ** 2 / 2);
      const [lower, upper] = [-half, half].map((by) => Math.tanh(Math.atanh(rho) + by).toFixed(2));
      expect(text).toContain(
        `published average: ${rho.toFixed(2)} at 128 of 576 tokens (95 % ${lower} to ${upper}, 4 methods).`,
      );
      expect(text).toContain('| `VisionZip 192` | 96.8 | 59.2 | 62.5 | 1749 |');
      expect(text).toContain('Improving Visual Token Reduction via Rectifying Distortions');
    });

    it('says nothing of orders where fewer than four methods are common', () => {
      const text = formatSummary({ ...methods, rows: methods.rows.slice(0, 4) }, 'md');
      expect(text).not.toContain('Our order');
      expect(text).not.toContain('Spearman');
    });
  });

  it('names n, says which rows kept the same tokens, and repeats warnings', () => {
    const text = formatSummary(summary, 'table');
    expect(text).toContain('n = 300 of 1088 questions (seed 0)');
    expect(text).toContain('\nfopru-row:keep=0.11 and fopru-row:keep=0.06 keep the same tokens.\n');
    expect(text).toContain('Warning: rows are whole');
    const staged = [90, 60].map((equivalentTokens) =>
      row(`v2drop:keep=0.${equivalentTokens}`, { keptTokens: 1, equivalentTokens }),
    );
    const rows = [...summary.rows, ...staged];
    expect(formatSummary({ ...summary, rows }, 'table')).not.toMatch(/v2drop.* keep the same tokens/);
  });

  it('counts the questions that were left out, and names their first images', () => {
    const skipped = { questions: 9, images: ['a.png', 'b.png', 'c.png', 'd.png'] };
    expect(formatSummary({ ...summary, skipped }, 'table')).toContain(
      'cannot be read: 9 of the questions drawn (a.png, b.png, c.png and 1 more).',
    );
    expect(formatSummary(summary, 'table')).not.toContain('Left out');
  });

  it('fits into 100 columns where the names of the reducers are those of the default comparison', () => {
    const kinds = ['attribute', 'choice', 'count', 'number', 'presence', 'relation', 'side', 'crowded'];
    const wide = row('fopru-rank:keep=0.75', {
      ...{ keptTokens: 192.5, keep: 0.755, accuracy: 1, ci95: [0.987, 1], ttftMs: 1234.5, prefillMs: 1000 },
      ...{ tpotMs: 123.45, kvBytes: 350e6, peakRssBytes: 14_000e6 },
      byKind: Object.fromEntries(kinds.map((kind) => [kind, { n: 1000, accuracy: 1 }])),
    });
    const lines = formatSummary({ ...summary, rows: [wide] }, 'table').split('\n');
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(100);
    expect(lines.every((line) => line === line.trimEnd())).toBe(true);
  });

  it('as CSV: numbers as they are, nothing where there is none', () => {
    const lines = formatSummary(summary, 'csv').split('\n');
    expect(lines[0]).toBe(
      'reducer,keep,keptTokens,stepTokens,equivalentTokens,questions,accuracy,ci95Low,ci95High,' +
        'differenceFromNone,differenceLow,differenceHigh,p,pHolm,ttftMs,visionMs,reduceMs,prefillMs,tpotMs,kvBytes,peakRssBytes,' +
        'presence.n,presence.accuracy,crowded.n,crowded.accuracy',
    );
    expect(lines[1]).toBe(
      'none,1,256,,256,300,1,0.987,1,,,,,,12.345,3,0.5,4,,549120,150000000,260,0.95,40,0.575',
    );
    expect(lines[2]).toBe(
      'fopru-row:keep=0.11,0.0625,16,16,16,300,0.9,0.86,0.93,,,,,,12.345,3,0.5,4,1.236,549120,,260,0.95,40,0.575',
    );
    expect(lines).toHaveLength(6);
    expect(lines[5]).toBe('');
  });

  it('as JSON: the summary', () => {
    expect(JSON.parse(formatSummary(summary, 'json'))).toEqual(summary);
  });
});
