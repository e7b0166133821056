/** The report as one HTML page: everything it shows is in it, and it asks nobody for anything. */
import { createHash } from 'node:crypto';
import path from 'node:path';
import type { Summary, SummaryRow } from '@foveate/eval';
import { html, raw } from 'hono/html';
import { script, style } from '../report-assets.js';
import { dtypeNames, notesOf, tablesOf } from '../table.js';
import { attentionSection } from './attention-section.js';
import { examplesSection } from './examples-section.js';
import type { Html } from './html.js';
import type { Inspection } from './inspect.js';
import { looksOf, type LookOf } from './looks.js';
import { costPlot, legend, type Cost } from './plots.js';
import { paretoFront, seriesOf, type Series } from './series.js';
import { dataTable } from './data-table.js';

export interface PageParts {
  readonly summary: Summary;
  /** Empty: the sections that show questions are left out. */
  readonly inspections: readonly Inspection[];
  /** When the page was made. */
  readonly date: Date;
}

const tokenCost: Cost = {
  id: 'tokens',
  name: 'visual tokens',
  label: 'visual tokens that a layer reads, mean (logarithmic)',
  scale: 'log',
  of: (row) => row.equivalentTokens,
  text: (row) => `${Number(row.equivalentTokens.toFixed(1))} tokens`,
};
const timeCost: Cost = {
  id: 'time',
  name: 'time to first token',
  label: 'time to first token, ms (median)',
  scale: 'linear',
  of: (row) => row.ttftMs,
  text: (row) => `${row.ttftMs.toFixed(1)} ms`,
};

/** Of their exact texts, so that nothing stands between the tags and the text. */
const styleTag = raw(`<style>${style}</style>`);
const scriptTag = raw(`<script>${script}</script>`);
/** Were a text ever to come through unescaped, the browser still runs and loads nothing but this. */
const policy = `default-src 'none'; img-src data:; style-src ${hashOf(style)}; script-src ${hashOf(script)}`;

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

/** The whole document. */
export async function renderPage({ summary, inspections, date }: PageParts): Promise<string> {
  const series = seriesOf(summary.rows);
  const lookOf = looksOf(series);
  const model = modelName(summary);
  const sections = [
    { id: 'plots', title: 'Plots', body: plotsSection(series, summary.rows, lookOf) },
    ...(inspections.length > 0
      ? [
          { id: 'examples', title: 'Examples', body: await examplesSection(inspections, lookOf) },
          { id: 'attention', title: 'Attention of the encoder', body: attentionSection(inspections) },
        ]
      : []),
    { id: 'tables', title: 'Tables', body: tablesSection(summary, lookOf) },
    { id: 'machine', title: 'Machine and run', body: machineSection(summary) },
  ];
  const page = await html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta http-equiv="Content-Security-Policy" content="${policy}" />
        <title>Foveate report: ${model}</title>
        <link rel="icon" href="data:," />
        ${styleTag}
      </head>
      <body>
        <a class="skip" href="#main">To the content</a>
        <header>
          <p class="brand">Foveate report</p>
          <h1>Fewer visual tokens for ${model}</h1>
          <p class="lead">${leadOf(summary)}</p>
          <nav aria-label="Sections">
            <ul>
              ${sections.map(({ id, title }) => html`<li><a href="#${id}">${title}</a></li>`)}
            </ul>
          </nav>
        </header>
        <main id="main">
          ${sections.map(
            ({ id, title, body }) =>
              html`<section id="${id}" aria-labelledby="${id}-heading">
                <h2 id="${id}-heading">${title}</h2>
                ${body}
              </section>`,
          )}
        </main>
        <footer>
          <p>Made by foveate ${summary.machine.versions.foveate} on ${date.toISOString().slice(0, 10)}.</p>
        </footer>
        ${scriptTag}
      </body>
    </html>`;
  return page;
}

/** The last two folders: enough to know it by, and nothing of where the user keeps it. */
function modelName({ model }: Summary): string {
  return model.directory.split(/[\\/]/).filter(Boolean).slice(-2).join('/');
}

function leadOf({ rows, data }: Summary): string {
  const [{ questions }] = rows;
  return `${rows.length} ways to reduce its visual tokens, on the same ${questions} of ${data.questions} questions.`;
}

function tablesSection(summary: Summary, lookOf: LookOf): Html {
  return html`${tablesOf(summary).map((table) => dataTable(table, table.caption, lookOf))}
    <ul class="notes">
      ${notesOf(summary).map((note) => html`<li>${note}</li>`)}
    </ul>`;
}

function plotsSection(series: readonly Series[], rows: readonly SummaryRow[], lookOf: LookOf): Html {
  return html`${legend(series, lookOf)}
    <div class="columns">${[tokenCost, timeCost].map((cost) => plotFigure(series, rows, lookOf, cost))}</div>
    <p class="notes">
      Higher and further left is better. Bars are 95 % intervals. The dashed line is the highest accuracy that
      can be had for a
      cost.${
        rows.some(({ draws }) => draws)
          ? ' A band goes from the lowest to the highest of several seeds of a draw.'
          : ''
      }
    </p>`;
}

function plotFigure(
  series: readonly Series[],
  rows: readonly SummaryRow[],
  lookOf: LookOf,
  cost: Cost,
): Html {
  const front = new Set(paretoFront(rows, cost.of));
  const table = {
    head: ['reducer', cost.name, 'right %', '95 %', 'on the front'],
    rows: rows.map((row) => [
      row.reducer,
      cost.text(row),
      percent(row.accuracy),
      row.ci95.map(percent).join('-'),
      front.has(row) ? 'yes' : 'no',
    ]),
  };
  return html`<figure>
    <figcaption>Accuracy against ${cost.name}</figcaption>
    ${costPlot(series, lookOf, cost)}
    <details>
      <summary>Points of the plot against ${cost.name}</summary>
      ${dataTable(table, `Accuracy against ${cost.name}, point by point`, lookOf)}
    </details>
  </figure>`;
}

function machineSection({ model, data, seed, machine, backend, latencyQuestions }: Summary): Html {
  const { cpu, arch, platform, cores, memoryBytes, versions } = machine;
  const facts = [
    ['Processor', `${cpu || arch}, ${cores} cores`],
    ['System', `${platform} ${arch}`],
    ['Memory', `${(memoryBytes / 2 ** 30).toFixed(1)} GiB`],
    ['Versions', `Node ${versions.node}, onnxruntime ${versions.onnxruntime}, foveate ${versions.foveate}`],
    ['Backend', backend],
    ['Device', model.device],
    ['Graphs', dtypeNames(model.dtypes)],
    ['Model', `${model.modelType}, ${model.layers} layers in the language model`],
    ['Hash of the model', model.sha256],
    [
      'Questions',
      `${path.win32.basename(data.file)}, drawn with seed ${seed}; times from ${latencyQuestions} of them`,
    ],
    ['Hash of the questions', data.sha256],
  ];
  return html`<dl class="facts">
    ${facts.map(
      ([name, value]) =>
        html`<div>
          <dt>${name}</dt>
          <dd>${value}</dd>
        </div>`,
    )}
  </dl>`;
}

function percent(share: number): string {
  return (share * 100).toFixed(1);
}
