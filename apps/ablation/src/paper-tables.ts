/**
 * Every cell that papers print of the tables our presets follow: H. Jiang et al., FoPru: Focal Pruning for
 * Efficient Large Vision-Language Models, arXiv 2411.14164; and Cho et al., Improving Visual Token Reduction
 * via Rectifying Distortions, ICML 2026 (RESTORE), who ran the official codes of other methods again, all in
 * one environment. No other number is a paper's.
 */

/** One table of the paper, about one model. */
export interface PaperTable {
  readonly model: string;
  /** Where it stands in which paper, e.g. `The paper's Table 2`. */
  readonly source: string;
  /** Of its cells as printed, but for columns of whole numbers. Default 2. */
  readonly digits?: number;
  readonly columns: readonly string[];
  /** In the order of our rows where those have one. */
  readonly rows: readonly PaperRow[];
  /** What must be known of its cells, a sentence each; the first says whose they are. */
  readonly notes: readonly string[];
}

/** A row of it, cells as printed; null where there is no number. */
interface PaperRow {
  /** What the paper calls it. */
  readonly method: string;
  /** SPECs of our rows that do the same. */
  readonly specs: readonly string[];
  readonly cells: readonly (number | null)[];
  /** Which of our methods it is of, and how many of 576 tokens it keeps, where orders are compared. */
  readonly ranked?: { readonly method: string; readonly tokens: number };
}

const FOPRU =
  "The paper's cells (arXiv 2411.14164) are of other models and questions, on a GPU: compare orders.";

type Cells = PaperRow['cells'];

const row = (method: string, specs: readonly string[], cells: Cells): PaperRow => ({ method, specs, cells });

/** FastV before either layer that the presets cut at; the paper names "the third layer" of 32. */
const fastv = (keep: number, before = ''): string[] =>
  [1, 2].map((layer) => `${before}fastv:layer=${layer}:keep=${keep}`);

/** Table 2: accuracy, and efficiency on POPE. */
export const table2: PaperTable = {
  model: 'LLaVA-1.5-7B',
  source: "The paper's Table 2",
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
  notes: [FOPRU, "MMMU of PruMerge is printed as failed: the authors' PruMerge did not take several images."],
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
    ...{ model, source: "The paper's Table 4", columns: TABLE4_COLUMNS, notes: [FOPRU, ...notes] },
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

/** A method of ours by the cells of its rows at 192, 128 and 64 of 576 tokens, the average first. */
function restoreRows(method: string, name: string, cells: readonly Cells[]): PaperRow[] {
  return [192, 128, 64].map((tokens, index) => ({
    ...row(`${method} ${tokens}`, [], cells[index]),
    ranked: { method: name, tokens },
  }));
}

/** Table 1 of RESTORE; "avg %": the mean of the cells as shares of those of all tokens. */
export const restoreTable1: PaperTable = {
  model: 'LLaVA-1.5-7B',
  source: 'Table 1 of Cho et al., ICML 2026',
  digits: 1,
  columns: ['avg %', 'GQA', 'MMB', 'MME', 'POPE', 'SQA', 'VQAv2', 'TextVQA', 'SEED'],
  rows: [
    row('576', ['none'], [100, 61.9, 64.6, 1862, 85.9, 69.5, 78.5, 58.2, 58.6]),
    ...restoreRows('VisionZip', 'visionzip', [
      [96.8, 59.2, 62.5, 1749, 85.2, 68.7, 77.2, 55.8, 56.3],
      [95.6, 58.5, 61.4, 1705, 83.2, 68.8, 76.7, 55.6, 55.2],
      [93, 56, 60.5, 1690, 78.2, 69.5, 75.2, 53.8, 52.8],
    ]),
    ...restoreRows('DivPrune', 'divprune', [
      [96.9, 58.9, 63.1, 1723, 86.5, 69, 76.1, 55.7, 56.8],
      [96.3, 58.6, 63.7, 1702, 86.5, 68.9, 75.2, 55.2, 55.8],
      [93.8, 57.1, 60.2, 1653, 85.3, 68.3, 73.3, 54.5, 53.7],
    ]),
    ...restoreRows('VisPruner', 'vispruner', [
      [97.5, 59.4, 62.5, 1784, 86, 68.3, 76.5, 57.7, 56.6],
      [96.3, 58.1, 61.9, 1778, 84.5, 68.8, 75.3, 56.9, 55],
      [92.8, 55.8, 60, 1670, 80.5, 68.5, 72.3, 55.6, 52.6],
    ]),
    ...restoreRows('SparseVLM', 'sparsevlm', [
      [98.1, 59.5, 64.2, 1782, 85.4, 68.7, 77, 57.7, 57.3],
      [97.2, 58.4, 64.4, 1761, 85, 68.7, 76.2, 56.6, 56.9],
      [90.6, 53.8, 60.2, 1591, 77.5, 69.7, 70.3, 53.5, 51.2],
    ]),
    ...restoreRows('PyramidDrop', 'pyramiddrop', [
      [96.8, 58, 62.9, 1790, 84, 68.9, 76, 57.1, 55.8],
      [84.5, 51.6, 54.9, 1403, 67.8, 68.8, 65.6, 52.6, 47],
      [80.9, 49, 55.6, 1404, 55.5, 69.5, 60.1, 50.6, 46.1],
    ]),
    ...restoreRows('ToMe', 'tome', [
      [96.9, 59.5, 62.6, 1727, 86.9, 69, 75.9, 55.8, 56.6],
      [95.1, 58.7, 60.7, 1668, 86.5, 68.4, 74.5, 54.8, 55.1],
      [91.6, 56, 57.9, 1588, 84.3, 68, 71.7, 52.6, 52.8],
    ]),
    ...restoreRows('FastV', 'fastv', [
      [96, 57.1, 64.4, 1821, 75.8, 68.9, 74.7, 57.8, 56.3],
      [91.8, 54.1, 63.1, 1694, 68.3, 69.3, 70.7, 56.3, 54],
      [75.2, 46.4, 51.4, 1284, 36.1, 69.9, 56.2, 51.6, 43.9],
    ]),
  ],
  notes: [
    'The cells of Table 1 are those of Cho et al. (Improving Visual Token Reduction via Rectifying Distortions, ICML 2026), who ran the official codes again: of LLaVA-1.5-7B and other questions, so compare orders.',
  ],
};
