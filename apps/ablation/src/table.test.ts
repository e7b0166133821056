import type { Summary, SummaryRow } from '@foveate/eval';
import { describe, expect, it } from 'vitest';
import { formatSummary } from './table.js';

function row(reducer: string, changes: Partial<SummaryRow> = {}): SummaryRow {
  return {
    reducer,
    ...{
      keep: 0.25,
      keptTokens: 64,
      equivalentTokens: 64,
      stages: [],
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
  model: { directory: '/m', sha256: 'm', modelType: 'llava', layers: 6, kvHeads: 5, headDim: 32 },
  data: { file: '/d', sha256: 'd', questions: 1088, limit: 300 },
  ...{
    seed: 0,
    preset: null,
    interval: 'bootstrap',
    resamples: 10_000,
    latencyQuestions: 31,
    comparisons: [],
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

describe('formatSummary', () => {
  it('as Markdown: two tables and their notes', () => {
    expect(formatSummary(summary, 'md').split('\n').slice(0, 6)).toEqual([
      '| reducer | tokens | kept % | right % | 95 % | TTFT ms | prefill ms | TPOT ms | KV MB | peak MB |',
      '| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |',
      '| `none` | 256 | 100 | 100.0 | 98.7-100.0 | 12.3 | 4.0 | - | 0.55 | 150 |',
      '| `fopru-row:keep=0.11` | 16 | 6.3 | 90.0 | 86.0-93.0 | 12.3 | 4.0 | 1.24 | 0.55 | - |',
      '| `fopru-row:keep=0.06` | 16 | 6.3 | 90.0 | 86.0-93.0 | 12.3 | 4.0 | 1.24 | 0.55 | 150 |',
      '| `fopru-row:significance=given:keep=0.06` | 16 | 6.3 | 90.0 | 86.0-93.0 | 12.3 | 4.0 | 1.24 | 0.55 | 150 |',
    ]);
    const text = formatSummary(summary, 'md');
    expect(text).toContain('| right % by kind | presence (260) | crowded (40) |');
    expect(text).toContain('| `none` | 95.0 | 57.5 |');
  });

  it('names n, says which rows kept the same tokens, and repeats warnings', () => {
    const text = formatSummary(summary, 'table');
    expect(text).toContain('n = 300 of 1088 questions (seed 0)');
    expect(text).toContain('\nfopru-row:keep=0.11 and fopru-row:keep=0.06 keep the same tokens.\n');
    expect(text).toContain('Warning: rows are whole');
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
      'reducer,keep,keptTokens,questions,accuracy,ci95Low,ci95High,ttftMs,visionMs,reduceMs,prefillMs,tpotMs,kvBytes,peakRssBytes,' +
        'presence.n,presence.accuracy,crowded.n,crowded.accuracy',
    );
    expect(lines[1]).toBe('none,1,256,300,1,0.987,1,12.345,3,0.5,4,,549120,150000000,260,0.95,40,0.575');
    expect(lines[2]).toBe(
      'fopru-row:keep=0.11,0.0625,16,300,0.9,0.86,0.93,12.345,3,0.5,4,1.236,549120,,260,0.95,40,0.575',
    );
    expect(lines).toHaveLength(6);
    expect(lines[5]).toBe('');
  });

  it('as JSON: the summary', () => {
    expect(JSON.parse(formatSummary(summary, 'json'))).toEqual(summary);
  });
});
