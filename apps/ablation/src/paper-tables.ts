/**
 * Every cell that the paper prints of the tables our presets follow: H. Jiang et al., FoPru: Focal Pruning
 * for Efficient Large Vision-Language Models, arXiv 2411.14164. No other number is the paper's.
 */

/** One table of the paper, about one model. */
export interface PaperTable {
  readonly model: string;
  /** Where it stands. */
  readonly source: string;
  readonly columns: readonly string[];
  /** In the order of our rows where those have one. */
  readonly rows: readonly PaperRow[];
  /** What must be known of its cells, a sentence each. */
  readonly notes: readonly string[];
}

/** A row of it, cells as printed; null where there is no number. */
interface PaperRow {
  /** What the paper calls it. */
  readonly method: string;
  /** SPECs of our rows that do the same. */
  readonly specs: readonly string[];
  readonly cells: readonly (number | null)[];
}

type Cells = PaperRow['cells'];

const row = (method: string, specs: readonly string[], cells: Cells): PaperRow => ({ method, specs, cells });

/** FastV before either layer that the presets cut at; the paper names "the third layer" of 32. */
const fastv = (keep: number, before = ''): string[] =>
  [1, 2].map((layer) => `${before}fastv:layer=${layer}:keep=${keep}`);

/** Table 2: accuracy, and efficiency on POPE. */
export const table2: PaperTable = {
  model: 'LLaVA-1.5-7B',
  source: 'Table 2',
  columns: [
    ...['AI2D', 'GQA', 'MMMU', 'SQA', 'POPE', 'TextVQA', 'OCRBench'],
    ...['TTFT ms', 'TTFT x', 'TPOT ms', 'TPOT x', 'GPU GB'],
  ],
  rows: [
    row('100 %', ['none'], [55.5, 61.97, 35.3, 69.51, 86.98, 46.0, 31.2, 74, null, 27.71, null, 13.91]),
    row(
      'PruMerge',
      ['prumerge'],
      [52.49, 51.48, null, 68.96, 74.61, 37.64, 25.6, 47, 1.59, 21.95, 1.26, 13.35],
    ),
    row(
      'PruMerge+',
      ['prumerge-plus'],
      [54.14, 57.35, null, 69.16, 84.25, 39.41, 28.0, 74, 1.0, 21.82, 1.27, 13.46],
    ),
    row(
      'FastV 75 %',
      fastv(0.75),
      [55.34, 61.61, 36.11, 69.51, 86.69, 46.08, 31.3, 69, 1.07, 27.4, 1.01, 13.81],
    ),
    row(
      'FoPru 75 %',
      ['fopru-rank:keep=0.75'],
      [55.7, 61.55, 36.67, 68.52, 86.92, 45.87, 31.7, 62, 1.2, 21.45, 1.29, 13.76],
    ),
    row(
      'FastV 50 %',
      fastv(0.5),
      [55.08, 60.33, 35.89, 68.67, 85.2, 45.51, 30.6, 59, 1.26, 27.16, 1.02, 13.69],
    ),
    row(
      'FoPru 50 %',
      ['fopru-rank:keep=0.5'],
      [55.12, 60.98, 36.11, 68.07, 87.4, 45.64, 31.3, 49, 1.52, 21.41, 1.29, 13.61],
    ),
    row(
      'FastV 25 %',
      fastv(0.25),
      [53.95, 57.47, 35.44, 68.86, 81.21, 42.56, 29.0, 51, 1.44, 27.28, 1.02, 13.52],
    ),
    row(
      'FoPru 25 %',
      ['fopru-rank:keep=0.25'],
      [54.6, 57.94, 36.56, 68.27, 85.07, 44.35, 30.5, 38, 1.97, 20.89, 1.33, 13.51],
    ),
    row(
      'FoPru+FastV 25 %',
      fastv(0.5, 'fopru-rank:keep=0.5+'),
      [54.18, 58.61, 36.22, 68.42, 84.44, 44.43, 30.2, 49, 1.5, 27.12, 1.02, 13.51],
    ),
  ],
  notes: ["MMMU of PruMerge is printed as failed: the authors' PruMerge did not take several images."],
};

const TABLE4_COLUMNS = ['AI2D', 'TextVQA', 'GQA', 'MMMU', 'SQA', 'POPE', 'OCRBench', 'Avg'];

/** The rows of one model of Table 4: all tokens, then by row and by rank at 75, 50 and 25 %. */
function table4Of(model: string, cells: readonly Cells[], notes: readonly string[] = []): PaperTable {
  const [all, ...reduced] = cells;
  const rows = reduced.map((values, index) => {
    const keep = [0.75, 0.5, 0.25][index >> 1];
    const strategy = ['row', 'rank'][index % 2];
    return row(`FoPru ${strategy} ${keep * 100} %`, [`fopru-${strategy}:keep=${keep}`], values);
  });
  return {
    ...{ model, source: 'Table 4', columns: TABLE4_COLUMNS, notes },
    rows: [row('100 %', ['none'], all), ...rows],
  };
}

/** Table 4: rank against row. */
export const table4: readonly PaperTable[] = [
  table4Of('LLaVA-NeXT-8B', [
    [71.66, 65.43, 65.38, 40.22, 79.44, 87.84, 54.9, 66.41],
    [70.69, 64.14, 64.96, 39.33, 79.91, 86.19, 53.2, 65.49],
    [69.56, 63.35, 65.21, 39.78, 79.77, 87.87, 50.6, 65.16],
    [67.33, 61.02, 61.89, 39.11, 79.16, 86.51, 48.7, 63.39],
    [70.02, 62.86, 64.82, 39.67, 79.39, 87.13, 49.5, 64.77],
    [64.44, 52.79, 60.68, 38.89, 79.25, 83.5, 35.2, 59.25],
    [68.01, 61.24, 63.0, 39.22, 79.27, 86.88, 45.9, 63.36],
  ]),
  table4Of('LLaVA-1.6-7B', [
    [66.58, 64.9, 64.24, 35.1, 73.21, 87.61, 52.2, 63.41],
    [63.63, 63.0, 64.07, 35.67, 72.86, 87.93, 51.3, 62.64],
    [65.54, 62.25, 64.13, 37.0, 73.19, 87.39, 50.4, 62.84],
    [61.72, 60.0, 63.46, 35.78, 72.91, 87.86, 47.4, 61.3],
    [64.83, 63.01, 63.83, 37.33, 72.53, 87.93, 47.7, 62.45],
    [59.84, 52.03, 61.57, 35.67, 72.41, 85.02, 40.0, 58.08],
    [64.35, 60.81, 62.26, 36.67, 72.39, 86.83, 44.6, 61.13],
  ]),
  table4Of(
    'LLaVA-1.6-13B',
    [
      [70.3, 67.1, 65.37, 35.9, 75.85, 87.56, 55.1, 65.31],
      [69.4, 66.03, 65.37, 36.44, 75.95, 87.33, 53.9, 64.92],
      [69.56, 64.54, 65.43, 36.22, 75.69, 87.78, 49.4, 64.09],
      [68.07, 62.95, 64.68, 36.33, 76.23, 86.81, 50.1, 63.6],
      [68.98, 64.33, 65.15, 37.11, 76.11, 87.84, 48.7, 60.06],
      [65.12, 54.16, 62.45, 35.56, 76.0, 83.67, 41.3, 59.75],
      [67.81, 62.58, 63.41, 37.56, 75.74, 86.71, 46.3, 62.87],
    ],
    ['Avg of rank at 50 % is as printed; its cells average 64.03.'],
  ),
];
