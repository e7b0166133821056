/** Comparisons by name: those of the paper as rows of ours, and all methods at equal cost. */
import type { EqualBy } from '@foveate/eval';
import { restoreTable1, table2, table4, type PaperTable } from './paper-tables.js';

/** A comparison by name. */
export interface Preset {
  readonly name: string;
  /** One line. */
  readonly description: string;
  /** Full SPECs, a row each, the first of them `none`; null where they depend on the model. */
  readonly specs: readonly string[] | null;
  /** What the paper calls a row, where its SPEC does not say so. By SPEC. */
  readonly labels: ReadonlyMap<string, string>;
  /** Whether each kind's accuracy is printed relative to that of `none` too. */
  readonly relative: boolean;
  /** The cells that the paper prints; none where its table reached us as a caption only. */
  readonly paper: readonly PaperTable[];
  /** Questions unless another number is asked for; 0: all. */
  readonly limit: number;
  /** By which number two rows are compared. */
  readonly equalBy: EqualBy;
  /** Whether peak memory is measured, by a process for each row. */
  readonly measuresPeak: boolean;
}

/** What the tables of the paper have in common. */
const ofPaper = { limit: 0, equalBy: 'keptTokens', measuresPeak: true } as const;

const RATIOS = [0.75, 0.5, 0.25];
/** K of FastV: the embedded model has 6 layers, so that the paper's third of 32 would be half of them. */
const LAYERS = [1, 2];

/**
 * Figure 5 keeps 1, 16, 36, 64, 100, 144, 288 and 432 of 576 tokens: shares rounded up, so that rounding down
 * again gives them. All 576 are `none`.
 */
const FIGURE5_SHARES = [0.0018, 0.0278, 0.0625, 0.1112, 0.1737, 0.25, 0.5, 0.75];
/**
 * Those of them at which a grid of 16 rows keeps 1, 2, 4, 8 and 12 rows; the smaller ones keep one row too.
 */
const FIGURE5_ROW_SHARES = [0.0625, 0.1737, 0.25, 0.5, 0.75];

/** Those of the paper in its order. */
export const presets: readonly Preset[] = [
  {
    ...ofPaper,
    name: 'table2',
    description: 'every method at 75, 50 and 25 %',
    specs: [
      'none',
      'prumerge',
      'prumerge-plus',
      ...RATIOS.flatMap((keep) => [
        ...LAYERS.map((layer) => `fastv:layer=${layer}:keep=${keep}`),
        `fopru-rank:keep=${keep}`,
        `uniform:keep=${keep}`,
        `random:keep=${keep}`,
      ]),
      ...LAYERS.map((layer) => `fopru-rank:keep=0.5+fastv:layer=${layer}:keep=0.5`),
    ],
    labels: new Map(),
    relative: false,
    paper: [table2],
  },
  {
    ...ofPaper,
    name: 'table3',
    description: 'FoPru by rank at 25 %, without one part at a time',
    specs: [
      'none',
      'fopru-rank:keep=0.25',
      'fopru-rank:keep=0.25:significance=low-variance',
      'fopru-rank:keep=0.25:order=score',
      'pooling:window=2x2',
      'pooling:window=1x4',
    ],
    labels: new Map([
      ['fopru-rank:keep=0.25', 'full'],
      ['fopru-rank:keep=0.25:significance=low-variance', 'w/o variance'],
      ['fopru-rank:keep=0.25:order=score', 'w/o reordering'],
      ['pooling:window=2x2', 'w/o significance (2x2)'],
      ['pooling:window=1x4', 'w/o significance (1x4)'],
    ]),
    relative: false,
    paper: [],
  },
  {
    ...ofPaper,
    name: 'table4',
    description: 'FoPru by rank against by row, accuracy relative to all tokens too (Figure 6)',
    specs: ['none', ...RATIOS.flatMap((keep) => [`fopru-row:keep=${keep}`, `fopru-rank:keep=${keep}`])],
    labels: new Map(),
    relative: true,
    paper: table4,
  },
  {
    ...ofPaper,
    name: 'figure5',
    description: 'FoPru by rank and by row from one token to all',
    specs: [
      'none',
      ...FIGURE5_SHARES.map((keep) => `fopru-rank:keep=${keep}`),
      ...FIGURE5_ROW_SHARES.map((keep) => `fopru-row:keep=${keep}`),
    ],
    labels: new Map(),
    relative: false,
    paper: [],
  },
  {
    name: 'methods',
    description: 'every method, 192, 128 and 64 of 576 tokens a layer on average',
    specs: null,
    labels: new Map(),
    relative: false,
    paper: [restoreTable1],
    ...{ limit: 240, equalBy: 'equivalentTokens', measuresPeak: false },
  },
];

/** Null where there is none of that name. */
export function findPreset(name: string | null): Preset | null {
  return presets.find((preset) => preset.name === name) ?? null;
}
