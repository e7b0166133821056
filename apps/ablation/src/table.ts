/** Prints a summary: a table for the terminal, Markdown, CSV or JSON. */
import type { Summary, SummaryRow } from '@foveate/eval';
import Table from 'cli-table3';
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

/** What it costs and how often it is right; then how often by kind. */
export function tablesOf({ rows }: Summary): TextTable[] {
  return [costTable(rows), kindTable(rows)];
}

function costTable(rows: readonly SummaryRow[]): TextTable {
  return {
    head: [
      'reducer',
      'tokens',
      'kept %',
      'right %',
      '95 %',
      'TTFT ms',
      'prefill ms',
      'TPOT ms',
      'KV MB',
      'peak MB',
    ],
    rows: rows.map((row) => [
      row.reducer,
      rounded(row.keptTokens, 1),
      rounded(row.keep * 100, 1),
      percent(row.accuracy),
      row.ci95.map(percent).join('-'),
      row.ttftMs.toFixed(1),
      row.prefillMs.toFixed(1),
      row.tpotMs?.toFixed(2) ?? '-',
      (row.kvBytes / 1e6).toFixed(2),
      row.peakRssBytes === null ? '-' : (row.peakRssBytes / 1e6).toFixed(0),
    ]),
  };
}

function kindTable(rows: readonly SummaryRow[]): TextTable {
  const kinds = Object.keys(rows[0].byKind);
  return {
    head: ['right % by kind', ...kinds.map((kind) => `${kind} (${rows[0].byKind[kind].n})`)],
    rows: rows.map(({ reducer, byKind }) => [
      reducer,
      ...kinds.map((kind) => percent(byKind[kind].accuracy)),
    ]),
  };
}

/** What a reader of the tables has to know, a sentence or two each. */
export function notesOf(summary: Summary): string[] {
  const { rows, data, seed, latencyQuestions, machine } = summary;
  const [{ questions, byKind }] = rows;
  const crowded = Object.hasOwn(byKind, 'crowded')
    ? ['Crowded scenes count in "right %" and stand apart from the kinds.']
    : [];
  const same = sameTokens(rows).map(
    (group) => `${group.map(({ reducer }) => reducer).join(' and ')} keep the same tokens.`,
  );
  const warnings = [...new Set(rows.flatMap((row) => row.warnings))].map((warning) => `Warning: ${warning}`);
  const { cpu, cores, versions } = machine;
  return [
    `n = ${questions} of ${data.questions} questions (seed ${seed}), the same for each row; 95 % intervals by bootstrap.`,
    ...crowded,
    ...same,
    `Times and KV: medians of ${latencyQuestions} calls. Peak: one answer in a process of its own. MB: 10^6 bytes.`,
    `${cpu || machine.arch}, ${cores} cores; Node ${versions.node}, onnxruntime ${versions.onnxruntime}, foveate ${versions.foveate}.`,
    ...warnings,
  ];
}

/** Rows of one method whose budgets come to the same number of tokens, so that it kept the same ones. */
function sameTokens(rows: readonly SummaryRow[]): SummaryRow[][] {
  const groups = new Map<string, SummaryRow[]>();
  for (const row of rows) {
    const stages = parseSpec(row.reducer);
    if (stages.length > 1) continue;
    const [{ name, options }] = stages;
    const others = Object.entries(options).filter(([option]) => option !== 'keep' && option !== 'count');
    const method = formatSpec([{ name, options: Object.fromEntries(others) }]);
    const key = `${method} ${row.keptTokens}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()].filter((group) => group.length > 1);
}

const bare = {
  ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '' },
  ...{ bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '' },
  ...{ left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
};

function textTable({ head, rows }: TextTable): string {
  const table = new Table({
    // A head of two lines keeps the columns as narrow as their numbers.
    head: head.map((name, column) => (column === 0 ? name : name.replace(' ', '\n'))),
    chars: bare,
    colAligns: head.map((_, column) => (column === 0 ? 'left' : 'right')),
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true },
  });
  table.push(...rows.map((row) => [...row]));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

function markdownTable({ head, rows }: TextTable): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = head.map((_, column) => (column === 0 ? '---' : '--:'));
  return [line(head), line(rule), ...rows.map((row) => line([`\`${row[0]}\``, ...row.slice(1)]))].join('\n');
}

/** One line a row, numbers as summary.json has them. No cell needs quotes: a SPEC has no comma, and the rest are numbers. */
function csv({ rows }: Summary): string {
  const kinds = Object.keys(rows[0].byKind);
  const columns: [string, (row: SummaryRow) => string | number | null][] = [
    ['reducer', (row) => row.reducer],
    ['keep', (row) => row.keep],
    ['keptTokens', (row) => row.keptTokens],
    ['questions', (row) => row.questions],
    ['accuracy', (row) => row.accuracy],
    ['ci95Low', (row) => row.ci95[0]],
    ['ci95High', (row) => row.ci95[1]],
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
