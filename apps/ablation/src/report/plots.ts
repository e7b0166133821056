/** The report's plots, as SVG that takes its colours from the page's style. */
import type { SummaryRow } from '@foveate/eval';
import { scaleBand, scaleLinear, scaleLog } from 'd3-scale';
import { area, line, curveStepAfter } from 'd3-shape';
import { html } from 'hono/html';
import { key, type Look, type LookOf } from './looks.js';
import { paretoFront, type Series } from './series.js';
import type { Html } from './html.js';

const WIDTH = 460;
const HEIGHT = 330;
const MARGIN = { top: 14, right: 16, bottom: 46, left: 50 };
const LEFT = MARGIN.left;
const RIGHT = WIDTH - MARGIN.right;
const TOP = MARGIN.top;
const BOTTOM = HEIGHT - MARGIN.bottom;

/** What the horizontal axis of {@link costPlot} shows. */
export interface Cost {
  /** Part of ids: letters alone. */
  readonly id: string;
  /** What it is, e.g. `time to first token`. */
  readonly name: string;
  /** Of the axis, with its unit. */
  readonly label: string;
  readonly scale: 'linear' | 'log';
  readonly of: (row: SummaryRow) => number;
  readonly text: (row: SummaryRow) => string;
}

/**
 * Accuracy against a cost, a mark a row with its interval, the rows of a method joined, the Pareto front
 * drawn.
 */
export function costPlot(series: readonly Series[], lookOf: LookOf, cost: Cost): Html {
  const rows = series.flatMap((one) => one.rows);
  const x = costScale(cost, rows);
  const y = scaleLinear(accuracyDomain(rows), [BOTTOM, TOP]).nice(6);
  const at = (row: SummaryRow): [number, number] => [x(cost.of(row)), y(row.accuracy)];
  const front = paretoFront(rows, cost.of);
  const joined = line();
  const description = `The Pareto front: ${frontInWords(front, cost)}. The table below the plot has every point.`;
  return html`<svg
    class="plot"
    viewBox="0 0 ${WIDTH} ${HEIGHT}"
    role="img"
    aria-labelledby="${cost.id}-title"
    aria-describedby="${cost.id}-description"
  >
    <title id="${cost.id}-title">Accuracy against ${cost.name}</title>
    <desc id="${cost.id}-description">${description}</desc>
    ${horizontalAxis(
      ticksOf(x, cost).map((tick) => ({ at: x(tick), text: String(tick) })),
      cost.label,
    )}
    ${verticalAxis(
      y.ticks(6).map((tick) => ({ at: y(tick), text: String(Math.round(tick * 100)) })),
      'right answers, %',
    )}
    <path class="front" d="${frontPath(front.map(at))}" />
    ${series.map(({ method, rows: ofMethod }) => {
      const look = lookOf(method);
      const drawn = bandPath(ofMethod, cost, (share, row) => [x(cost.of(row)), y(share)]);
      return html`<g class="${look?.className}">
        ${drawn && html`<path class="band" d="${drawn}" />`}
        <path class="joined" d="${joined([...ofMethod].sort((a, b) => cost.of(a) - cost.of(b)).map(at))}" />
        ${ofMethod.map((row) => mark(row, at(row), [y(row.ci95[0]), y(row.ci95[1])], look, cost))}
      </g>`;
    })}
  </svg>`;
}

/** From the lowest to the highest share of a method that is a draw; empty of any other. */
function bandPath(
  rows: readonly SummaryRow[],
  cost: Cost,
  at: (share: number, row: SummaryRow) => [number, number],
): string {
  const drawn = rows.flatMap((row) => (row.draws ? { row, ...row.draws } : []));
  const band = area<(typeof drawn)[number]>()
    .x(({ row, mean }) => at(mean, row)[0])
    .y0(({ row, lowest }) => at(lowest, row)[1])
    .y1(({ row, highest }) => at(highest, row)[1])
    .digits(1);
  return band(drawn.sort((a, b) => cost.of(a.row) - cost.of(b.row))) ?? '';
}

function mark(
  row: SummaryRow,
  [x, y]: readonly [number, number],
  [low, high]: readonly [number, number],
  look: Look | null,
  cost: Cost,
): Html {
  const interval = row.ci95.map((share) => (share * 100).toFixed(1)).join(' to ');
  return html`<g class="mark">
    <title>${row.reducer}: ${(row.accuracy * 100).toFixed(1)} % right (${interval}), ${cost.text(row)}</title>
    <path class="interval" d="M${round(x)} ${round(low)}V${round(high)}" />
    <path class="point" transform="translate(${round(x)} ${round(y)})" d="${look?.shape}" />
  </g>`;
}

/** What each method's mark looks like. */
export function legend(series: readonly Series[], lookOf: LookOf): Html {
  return html`<ul class="legend">
    ${series.map(({ method }) => html`<li>${key(lookOf(method))}<code>${method}</code></li>`)}
    <li>
      <svg class="wide" viewBox="0 -8 28 16" aria-hidden="true"><path class="front" d="M0 0H28" /></svg>Pareto
      front: nothing is both cheaper and more often right
    </li>
  </ul>`;
}

type CostScale = ReturnType<typeof scaleLinear<number, number>> | ReturnType<typeof scaleLog<number, number>>;

function costScale({ scale, of }: Cost, rows: readonly SummaryRow[]): CostScale {
  const values = rows.map(of);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (scale === 'log')
    return scaleLog([Math.max(low, 0.5) / 1.15, Math.max(high, 1) * 1.15], [LEFT, RIGHT]).base(2);
  const space = (high - low || high || 1) * 0.06;
  return scaleLinear([Math.max(0, low - space), high + space], [LEFT, RIGHT]);
}

function ticksOf(scale: CostScale, { scale: kind }: Cost): number[] {
  return scale.ticks(kind === 'log' ? 5 : 6);
}

/** Around all intervals and bands, so that none is cut. */
function accuracyDomain(rows: readonly SummaryRow[]): [number, number] {
  const shares = rows.flatMap(({ ci95, draws }) => [
    ...ci95,
    ...(draws ? [draws.lowest, draws.highest] : []),
  ]);
  return [Math.min(...shares), Math.max(...shares)];
}

/** Steps: what accuracy can be had at most for a cost. It goes on to the right edge. */
function frontPath(points: readonly (readonly [number, number])[]): string {
  const last = points[points.length - 1];
  return (
    line().curve(curveStepAfter).digits(1)([
      ...points.map(([x, y]): [number, number] => [x, y]),
      [RIGHT, last[1]],
    ]) ?? ''
  );
}

function frontInWords(front: readonly SummaryRow[], cost: Cost): string {
  return front
    .map((row) => `${row.reducer} with ${cost.text(row)} and ${(row.accuracy * 100).toFixed(1)} % right`)
    .join('; ');
}

/** Of one encoder layer over the images. */
export interface LayerShare {
  readonly mean: number;
  readonly lowest: number;
  readonly highest: number;
}

/**
 * Which share of the attention received the top 25 % of the tokens hold: a bar a layer, the range over the
 * images on it.
 */
export function sharePlot(layers: readonly LayerShare[]): Html {
  const x = scaleBand([...layers.keys()], [LEFT, RIGHT]).padding(0.25);
  const y = scaleLinear([0, 1], [BOTTOM, TOP]);
  const every = Math.ceil(layers.length / 12);
  const middle = (layer: number): number => (x(layer) ?? 0) + x.bandwidth() / 2;
  const inWords = layers.map(({ mean }, layer) => `layer ${layer}: ${(mean * 100).toFixed(0)} %`).join(', ');
  return html`<svg
    class="plot"
    viewBox="0 0 ${WIDTH} ${HEIGHT}"
    role="img"
    aria-labelledby="share-title"
    aria-describedby="share-description"
  >
    <title id="share-title">Share of attention held by the top 25 % of tokens, by encoder layer</title>
    <desc id="share-description">${inWords}. Were attention even, every layer would be at 25 %.</desc>
    ${horizontalAxis(
      [...layers.keys()]
        .filter((layer) => layer % every === 0)
        .map((layer) => ({ at: middle(layer), text: String(layer) })),
      'encoder layer, from 0',
    )}
    ${verticalAxis(
      y.ticks(5).map((tick) => ({ at: y(tick), text: String(Math.round(tick * 100)) })),
      'attention of the top 25 %, %',
    )}
    ${layers.map(
      ({ mean, lowest, highest }, layer) =>
        html`<g class="layer">
          <title>layer ${layer}: ${(mean * 100).toFixed(1)} %</title>
          <rect
            class="bar"
            x="${round(x(layer) ?? 0)}"
            y="${round(y(mean))}"
            width="${round(x.bandwidth())}"
            height="${round(BOTTOM - y(mean))}"
          />
          <path class="range" d="M${round(middle(layer))} ${round(y(lowest))}V${round(y(highest))}" />
        </g>`,
    )}
    <path class="front" d="M${LEFT} ${y(0.25)}H${RIGHT}" />
  </svg>`;
}

interface Tick {
  readonly at: number;
  readonly text: string;
}

function horizontalAxis(ticks: readonly Tick[], label: string): Html {
  return html`<g class="axis">
    ${ticks.map(
      ({ at, text }) =>
        html`<path d="M${round(at)} ${TOP}V${BOTTOM}" /><text
            x="${round(at)}"
            y="${BOTTOM + 17}"
            text-anchor="middle"
          >
            ${text}
          </text>`,
    )}
    <text class="label" x="${(LEFT + RIGHT) / 2}" y="${HEIGHT - 6}" text-anchor="middle">${label}</text>
  </g>`;
}

function verticalAxis(ticks: readonly Tick[], label: string): Html {
  const middle = (TOP + BOTTOM) / 2;
  return html`<g class="axis">
    ${ticks.map(
      ({ at, text }) =>
        html`<path d="M${LEFT} ${round(at)}H${RIGHT}" /><text
            x="${LEFT - 7}"
            y="${round(at + 4)}"
            text-anchor="end"
          >
            ${text}
          </text>`,
    )}
    <text class="label" x="14" y="${middle}" text-anchor="middle" transform="rotate(-90 14 ${middle})"
      >${label}</text
    >
  </g>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
