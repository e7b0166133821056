/** Prints a summary: a table for the terminal, Markdown, CSV or JSON. */
import type { Comparison, Difference, Summary, SummaryRow } from '@foveate/eval';
import Table from 'cli-table3';
import type { PaperTable } from './paper-tables.js';
import { writeDtype } from './dtype.js';
import { findPreset, type Preset } from './presets.js';
import { sharedOrders, type SharedMethod, type SharedOrder } from './published-order.js';
import { formatSpec, parseSpec } from './spec.js';

export const formats = ['table', 'md', 'csv', 'json'] as const;
export type Format = (typeof formats)[number];

/** The whole text, ending with a newline. */
export function formatSummary(summary: Summary, format: Format): string {
  switch (format) {
    case 'table':
      return `${tablesOf(summary).map(textTable).join('\n\n')}\n\n${notesOf(summary).join('\n')}\n`;
    case 'md':
      return `${tablesOf(summary).map(markdownTable).join('\n\n')}\n\n${notesOf(summary).join('\n\n')}\n`;
    case 'csv':
      return csv(summary);
    case 'json':
      return `${JSON.stringify(summary, null, 2)}\n`;
  }
}

/** A table of texts; the first column holds names, the others numbers. */
export interface TextTable {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** A table with what it is of. */
export interface CaptionedTable extends TextTable {
  readonly caption: string;
}

/** Below this probability a difference counts as one. */
const SIGNIFICANT = 0.05;
/** So many of the images that cannot be read are named. */
const NAMED_IMAGES = 3;

/**
 * What was kept and how often it was right; what it cost; by kind; which rows differ; what the paper prints.
 */
export function tablesOf({ rows, comparisons, preset: name }: Summary): CaptionedTable[] {
  const preset = findPreset(name);
  const none = rows.find(isNone) ?? null;
  const differing = comparisons.filter(isSignificant);
  return [
    accuracyTable(rows, preset),
    costTable(rows, none, preset?.measuresPeak ?? true),
    kindTable(rows),
    ...(preset?.relative && none ? [relativeTable(rows, none)] : []),
    ...(differing.length > 0 ? [comparisonTable(differing)] : []),
    ...(preset?.paper.flatMap((paper) => sharedOrders(rows, paper).map(orderTable)) ?? []),
    ...(preset?.paper.flatMap((paper) => paperTables(paper, preset.relative)) ?? []),
  ];
}

function isNone({ steps }: SummaryRow): boolean {
  return steps.length === 0;
}

function isSignificant({ pHolm }: Difference): boolean {
  return pHolm < SIGNIFICANT;
}

/** A column, and what it says of a row. */
type Column<Row> = readonly [head: string, cell: (row: Row) => string];

function tableOf<Row>(
  caption: string,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
): CaptionedTable {
  const cells = rows.map((row) => columns.map(([, cell]) => cell(row)));
  return { caption, head: columns.map(([head]) => head), rows: cells };
}

const reducerColumn: Column<SummaryRow> = ['reducer', ({ reducer }) => reducer];

function accuracyTable(rows: readonly SummaryRow[], preset: Preset | null): CaptionedTable {
  const named = preset && preset.labels.size > 0;
  const layered = rows.some((row) => row.equivalentTokens !== row.keptTokens);
  return tableOf(
    'Tokens and accuracy',
    [
      reducerColumn,
      ...(named
        ? [['paper', ({ reducer }) => preset.labels.get(reducer) ?? ''] satisfies Column<SummaryRow>]
        : []),
      ['tokens', tokensCell],
      ...(layered ? [['T', (row) => rounded(row.equivalentTokens, 1)] satisfies Column<SummaryRow>] : []),
      ['kept %', (row) => rounded(row.keep * 100, 1)],
      ['right %', (row) => percent(row.accuracy)],
      ['95 %', (row) => row.ci95.map(percent).join('-')],
      ...(rows.some(({ draws }) => draws) ? [drawsColumn] : []),
      ...(rows.some(isNone) ? againstNoneColumns : []),
    ],
    rows,
  );
}

/** Kept after each step. */
function tokensCell({ steps, keptTokens }: SummaryRow): string {
  const counts = steps.length > 1 ? steps.map((step) => step.keptTokens) : [keptTokens];
  return counts.map((count) => rounded(count, 1)).join(' > ');
}

const drawsColumn: Column<SummaryRow> = [
  'draws %',
  ({ draws }) => (draws ? [draws.lowest, draws.mean, draws.highest].map(percent).join('-') : ''),
];

const againstNoneColumns: readonly Column<SummaryRow>[] = [
  ['to none', ({ againstNone }) => (againstNone ? points(againstNone) : '')],
  ['95 %', ({ againstNone }) => (againstNone ? intervalCell(againstNone) : '')],
  ['p', ({ againstNone }) => (againstNone ? pCell(againstNone) : '')],
];

/** With a star where it means something. */
function points(difference: Difference): string {
  return `${signed(difference.difference)}${isSignificant(difference) ? '*' : ''}`;
}

function intervalCell({ ci95 }: Difference): string {
  return ci95.map(signed).join(' to ');
}

function pCell({ pHolm }: Difference): string {
  return pHolm < 0.001 ? '<0.001' : pHolm.toFixed(3);
}

function signed(share: number): string {
  const text = percent(share);
  return share > 0 ? `+${text}` : text;
}

/** How many times as much `none` takes stands beside each figure. */
function costTable(rows: readonly SummaryRow[], none: SummaryRow | null, withPeak: boolean): CaptionedTable {
  type Cost = [name: string, unit: string, value: (row: SummaryRow) => number | null, digits: number];
  const peak: Cost = ['peak', 'MB', (row) => row.peakRssBytes && row.peakRssBytes / 1e6, 0];
  const costs: Cost[] = [
    ['TTFT', 'ms', (row) => row.ttftMs, 1],
    ['prefill', 'ms', (row) => row.prefillMs, 1],
    ['TPOT', 'ms', (row) => row.tpotMs, 2],
    ['KV', 'MB', (row) => row.kvBytes / 1e6, 2],
    ...(withPeak ? [peak] : []),
  ];
  const columns = costs.flatMap(([name, unit, value, digits]): Column<SummaryRow>[] => {
    const whole = none && value(none);
    return [
      [`${name} ${unit}`, (row) => value(row)?.toFixed(digits) ?? '-'],
      ...(none ? [[`${name} x`, (row) => ratio(whole, value(row))] satisfies Column<SummaryRow>] : []),
    ];
  });
  // After the TTFT that it is part of; against none there is nothing to compare.
  columns.splice(none ? 2 : 1, 0, ['reduce ms', (row) => row.reduceMs.toFixed(1)]);
  return tableOf('Time and memory', [reducerColumn, ...columns], rows);
}

function ratio(whole: number | null, part: number | null): string {
  return whole === null || part === null || part === 0 ? '-' : (whole / part).toFixed(2);
}

function kindTable(rows: readonly SummaryRow[]): CaptionedTable {
  return tableOf(
    'Right answers by kind of question',
    [
      ['right %', ({ reducer }) => reducer],
      ...kindsOf(rows).map(({ name, head }): Column<SummaryRow> => [
        head,
        ({ byKind }) => percent(byKind[name].accuracy),
      ]),
    ],
    rows,
  );
}

function relativeTable(rows: readonly SummaryRow[], none: SummaryRow): CaptionedTable {
  return tableOf(
    'Right answers relative to none',
    [
      ['% of none', ({ reducer }) => reducer],
      ...kindsOf(rows).map(({ name, head }): Column<SummaryRow> => [
        head,
        ({ byKind }) => relative(byKind[name].accuracy, none.byKind[name].accuracy),
      ]),
      ['all', ({ accuracy }) => relative(accuracy, none.accuracy)],
    ],
    rows,
  );
}

function relative(part: number, whole: number): string {
  return whole === 0 ? '-' : percent(part / whole);
}

function kindsOf([{ byKind }]: readonly SummaryRow[]): { name: string; head: string }[] {
  return Object.entries(byKind).map(([name, { n }]) => ({ name, head: `${name} (${n})` }));
}

function comparisonTable(comparisons: readonly Comparison[]): CaptionedTable {
  return tableOf<Comparison>(
    'Rows of equally many tokens that differ',
    [
      ['better', ({ reducer }) => reducer],
      ['than', ({ other }) => other],
      ['points', (comparison) => signed(comparison.difference)],
      ['95 %', intervalCell],
      ['only first', ({ onlyThis }) => String(onlyThis)],
      ['only second', ({ onlyOther }) => String(onlyOther)],
      ['p', pCell],
    ],
    comparisons,
  );
}

/** Our order of the methods that a paper has too, with both places, from 1; equal ones share the best. */
function orderTable({ tokens, methods }: SharedOrder): CaptionedTable {
  const placeOf = (of: (method: SharedMethod) => number) => (method: SharedMethod) =>
    String(1 + methods.filter((other) => of(other) > of(method)).length);
  return tableOf<SharedMethod>(
    `Our order beside the published one, at ${tokens} of 576 tokens`,
    [
      ['reducer', ({ row }) => row.reducer],
      ['right %', ({ row }) => percent(row.accuracy)],
      ['place', placeOf(({ row }) => row.accuracy)],
      ['published %', ({ published }) => published.toFixed(1)],
      ['published place', placeOf(({ published }) => published)],
    ],
    methods,
  );
}

/** The cells as printed; where asked for, also each as a share of the first row's. */
function paperTables(
  { model, source, digits = 2, columns, rows }: PaperTable,
  withRelative: boolean,
): CaptionedTable[] {
  const texts = (cell: (value: number, column: number) => string): string[][] =>
    rows.map(({ method, cells }) => [
      method,
      ...cells.map((value, column) => (value === null ? '-' : cell(value, column))),
    ]);
  const whole = rows[0].cells;
  const digitsOf = columns.map((_, column) =>
    rows.every(({ cells }) => Number.isInteger(cells[column] ?? 0)) ? 0 : digits,
  );
  const printed = {
    caption: `${source}, ${model}`,
    head: ['paper', ...columns],
    rows: texts((value, column) => value.toFixed(digitsOf[column])),
  };
  const shares = {
    caption: `The same relative to all tokens, ${model}`,
    head: ['% of 100 %', ...columns],
    rows: texts((value, column) => relative(value, whole[column] ?? 0)),
  };
  return withRelative ? [printed, shares] : [printed];
}

/** What a reader of the tables has to know, a sentence or two each. */
export function notesOf(summary: Summary): string[] {
  const { rows, data, seed, latencyQuestions, machine, resamples, backend, model, per } = summary;
  const [{ questions, byKind }] = rows;
  const crowded = Object.hasOwn(byKind, 'crowded')
    ? ['Crowded scenes count in "right %" and stand apart from the kinds.']
    : [];
  const layered = rows.some((row) => row.equivalentTokens !== row.keptTokens)
    ? ['T: visual tokens that a layer of the language model reads on average: (N K + kept (L - K)) / L.']
    : [];
  const same = sameTokens(rows).map(
    (group) => `${group.map(({ reducer }) => reducer).join(' and ')} keep the same tokens.`,
  );
  const warnings = [...new Set(rows.flatMap((row) => row.warnings))].map((warning) => `Warning: ${warning}`);
  const { cpu, cores, versions } = machine;
  const { paper, measuresPeak } = findPreset(summary.preset) ?? { paper: [], measuresPeak: true };
  const peak = measuresPeak ? 'Peak: one answer in a process of its own. ' : '';
  return [
    `n = ${questions} of ${data.questions} questions (seed ${seed}), the same for each row.`,
    `95 % intervals by bootstrap: ${resamples} draws of the questions, the same for all rows.`,
    ...skippedNotes(summary),
    ...summary.omitted.map(({ reducer, reason }) => `Left out: ${reducer}. ${reason}`),
    ...drawNotes(rows),
    ...differenceNotes(summary),
    ...crowded,
    ...layered,
    ...same,
    `Times and KV: medians of ${latencyQuestions} calls. ${peak}MB: 10^6 bytes.`,
    ...orderNotes(rows, paper),
    ...new Set(paper.flatMap((table) => table.notes)),
    `Backend: ${backend}. Device: ${model.device}. Graphs: ${dtypeNames(model.dtypes)}.${per === 'image' ? ' Budgets are of an image, all of its crops together.' : ''}`,
    `${cpu || machine.arch}, ${cores} cores; Node ${versions.node}, onnxruntime ${versions.onnxruntime}, foveate ${versions.foveate}.`,
    ...warnings,
  ];
}

/** The variant of all graphs, or of each. */
export function dtypeNames(dtypes: Summary['model']['dtypes']): string {
  const all = [...new Set(Object.values(dtypes))];
  return all.length === 1 ? all[0] : writeDtype(dtypes);
}

function skippedNotes({ skipped: { questions, images } }: Summary): string[] {
  if (questions === 0) return [];
  const more = images.length - NAMED_IMAGES;
  const named = `${images.slice(0, NAMED_IMAGES).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  return [
    `Left out of every row, as the image cannot be read: ${questions} of the questions drawn (${named}). Mend the images, and --resume asks them.`,
  ];
}

/** Which differences are to be believed. */
function differenceNotes({ rows, comparisons, equalBy }: Summary): string[] {
  const tested = rows.some(isNone) || comparisons.length > 0;
  const differing = comparisons.filter(isSignificant).length;
  return [
    ...(tested
      ? ["p: McNemar's exact test, adjusted by Holm; below 0.05, marked *, a difference means something."]
      : []),
    ...(comparisons.length > 0
      ? [
          `Pairs of rows ${equalBy === 'keptTokens' ? 'that keep' : 'whose layers read'} equally many tokens (within a tenth): ${comparisons.length}; more apart than by chance: ${differing}.`,
        ]
      : []),
  ];
}

function drawNotes(rows: readonly SummaryRow[]): string[] {
  const draws = rows.flatMap((row) => row.draws ?? []);
  if (draws.length === 0) return [];
  return [
    `draws %: lowest, mean and highest share answered rightly over ${draws[0].n} seeds; all else is of the first.`,
  ];
}

function orderNotes(rows: readonly SummaryRow[], paper: readonly PaperTable[]): string[] {
  const correlations = paper
    .flatMap((table) => sharedOrders(rows, table))
    .flatMap(({ tokens, correlation }) => {
      if (!correlation) return [];
      const { rho, ci95, n } = correlation;
      const [lower, upper] = ci95.map((bound) => bound.toFixed(2));
      return [`${rho.toFixed(2)} at ${tokens} of 576 tokens (95 % ${lower} to ${upper}, ${n} methods)`];
    });
  if (correlations.length === 0) return [];
  return [
    `Spearman's rank correlation of our accuracy and the published average: ${correlations.join('; ')}. Intervals by Fisher's z: what other methods might give, not other questions.`,
  ];
}

/** Rows of one method whose budgets come to the same number of tokens, so that it kept the same ones. */
function sameTokens(rows: readonly SummaryRow[]): SummaryRow[][] {
  const groups = new Map<string, SummaryRow[]>();
  for (const row of rows) {
    const steps = parseSpec(row.reducer);
    if (steps.length > 1) continue;
    const [{ name, options }] = steps;
    const others = Object.entries(options).filter(([option]) => option !== 'keep' && option !== 'count');
    const method = formatSpec([{ name, options: Object.fromEntries(others) }]);
    const key = `${method} ${row.keptTokens} ${row.equivalentTokens}`; // stages may differ before the last
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()].filter((group) => group.length > 1);
}

const bare = {
  ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '' },
  ...{ bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '' },
  ...{ left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
};

function textTable({ caption, head, rows }: CaptionedTable): string {
  const table = new Table({
    // A head of two lines keeps the columns as narrow as their numbers.
    head: head.map((name, column) => (column === 0 ? name : name.replace(' ', '\n'))),
    chars: bare,
    colAligns: head.map((_, column) => (column === 0 ? 'left' : 'right')),
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true },
  });
  table.push(...rows.map((row) => [...row]));
  return `${caption}\n\n${table.toString()}`
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

function markdownTable({ caption, head, rows }: CaptionedTable): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = head.map((_, column) => (column === 0 ? '---' : '--:'));
  return [
    `**${caption}**`,
    '',
    line(head),
    line(rule),
    ...rows.map((row) => line([`\`${row[0]}\``, ...row.slice(1)])),
  ].join('\n');
}

/**
 * One line a row, numbers as summary.json has them. No cell needs quotes: a SPEC has no comma, and the rest
 * are numbers.
 */
function csv({ rows }: Summary): string {
  const kinds = Object.keys(rows[0].byKind);
  const columns: [string, (row: SummaryRow) => string | number | null][] = [
    ['reducer', (row) => row.reducer],
    ['keep', (row) => row.keep],
    ['keptTokens', (row) => row.keptTokens],
    ['stepTokens', (row) => row.steps.map((step) => step.keptTokens).join(' ')],
    ['equivalentTokens', (row) => row.equivalentTokens],
    ['questions', (row) => row.questions],
    ['accuracy', (row) => row.accuracy],
    ['ci95Low', (row) => row.ci95[0]],
    ['ci95High', (row) => row.ci95[1]],
    ['differenceFromNone', (row) => row.againstNone?.difference ?? null],
    ['differenceLow', (row) => row.againstNone?.ci95[0] ?? null],
    ['differenceHigh', (row) => row.againstNone?.ci95[1] ?? null],
    ['p', (row) => row.againstNone?.p ?? null],
    ['pHolm', (row) => row.againstNone?.pHolm ?? null],
    ['ttftMs', (row) => row.ttftMs],
    ['visionMs', (row) => row.visionMs],
    ['reduceMs', (row) => row.reduceMs],
    ['prefillMs', (row) => row.prefillMs],
    ['tpotMs', (row) => row.tpotMs],
    ['kvBytes', (row) => row.kvBytes],
    ['peakRssBytes', (row) => row.peakRssBytes],
    ...kinds.flatMap((kind): typeof columns => [
      [`${kind}.n`, (row) => row.byKind[kind].n],
      [`${kind}.accuracy`, (row) => row.byKind[kind].accuracy],
    ]),
  ];
  const lines = [
    columns.map(([name]) => name),
    ...rows.map((row) => columns.map(([, value]) => value(row) ?? '')),
  ];
  return lines.map((cells) => `${cells.join(',')}\n`).join('');
}

function percent(share: number): string {
  return (share * 100).toFixed(1);
}

/** With as many digits as it needs, at most `digits`. */
function rounded(value: number, digits: number): string {
  return String(Number(value.toFixed(digits)));
}
