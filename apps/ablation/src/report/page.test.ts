import type { Summary, SummaryRow } from '@foveate/eval';
import { expect, it } from 'vitest';
import { renderPage } from './page.js';

const row = (reducer: string, tokens: number, accuracy: number): SummaryRow => ({
  ...{ reducer, keep: tokens / 576, keptTokens: tokens, equivalentTokens: tokens },
  steps: reducer === 'none' ? [] : [{ reducer: 'method', keptTokens: tokens }],
  ...{ questions: 10, accuracy, ci95: [0, 1], againstNone: null },
  ordinary: { n: 10, accuracy },
  byKind: { side: { n: 10, accuracy } },
  ...{ ttftMs: 1, visionMs: 1, reduceMs: 1, prefillMs: 1, tpotMs: 1, kvBytes: 1, peakRssBytes: null },
  warnings: [],
});

it('sets the order of all methods beside the published one, and says what is left out', async () => {
  const summary: Summary = {
    model: {
      ...{ directory: '/m', sha256: 'm', modelType: 'llava', layers: 6, kvHeads: 5, headDim: 32 },
      dtypes: { vision_encoder: 'fp32', embed_tokens: 'fp32', decoder_model_merged: 'fp32' },
      device: 'cpu',
    },
    data: { file: '/d', sha256: 'd', questions: 10, limit: 0 },
    skipped: { questions: 0, images: [] },
    omitted: [{ reducer: 'tome', reason: 'Its encoder is another.' }],
    ...{ seed: 0, preset: 'methods', backend: 'onnx', per: 'crop', equalBy: 'equivalentTokens' },
    ...{ interval: 'bootstrap', resamples: 10, latencyQuestions: 1, comparisons: [] },
    machine: {
      ...{ platform: 'linux', arch: 'x64', cpu: 'A CPU', cores: 2, memoryBytes: 1 },
      versions: { node: '20.0.0', onnxruntime: '1.30.0', foveate: '1.0.0' },
    },
    rows: [
      row('none', 576, 0.9),
      ...['visionzip', 'divprune', 'vispruner', 'pyramiddrop'].map((name, index) =>
        row(`${name}:keep=0.1112`, 64, 0.8 - index / 10),
      ),
      { ...row('random:keep=0.1112', 64, 0.4), draws: { n: 5, lowest: 0.3, mean: 0.35, highest: 0.4 } },
      { ...row('random:keep=0.3334', 192, 0.6), draws: { n: 5, lowest: 0.5, mean: 0.6, highest: 0.7 } },
    ],
  };
  const markup = await renderPage({ summary, inspections: [], date: new Date(0) });
  const page = markup.slice(); // a plain string, which hono's is not
  expect(page).toContain('Our order beside the published one, at 64 of 576 tokens');
  expect(page).toMatch(/Spearman&#39;s rank correlation/);
  // Two plots, a band in each: along the highest shares and back along the lowest.
  const bands = [...page.matchAll(/class="band" d="M([^"]*)Z"/g)].map(([, path]) => path.split('L').length);
  expect(bands).toEqual([4, 4]);
  expect(page).toContain('A band goes from the lowest to the highest of several seeds');
  expect(page).toContain('Left out: tome. Its encoder is another.');
});
