/** How a method looks, wherever the page shows it: one colour and one mark. */
import { symbol, symbolsFill } from 'd3-shape';
import { html } from 'hono/html';
import type { Html } from './html.js';
import type { Series } from './series.js';

/**
 * The style knows so many colours; shapes, of which there are seven, tell the methods apart beyond them and
 * without colour.
 */
const COLOURS = 8;

/** The look of one method. */
export interface Look {
  /** Gives what is inside the method's colour. */
  readonly className: string;
  /** Of a path around the origin, 16 units wide and high at most. */
  readonly shape: string;
}

/** The look of a method or of a row, by its SPEC; null where it is neither. */
export type LookOf = (spec: string) => Look | null;

/** Gives each method of the run its look. */
export function looksOf(series: readonly Series[]): LookOf {
  const looks = new Map<string, Look>();
  for (const [index, { method, rows }] of series.entries()) {
    const shape = symbol(symbolsFill[index % symbolsFill.length], 64).digits(2)() ?? '';
    const look = { className: `series colour-${index % COLOURS}`, shape };
    for (const spec of [method, ...rows.map(({ reducer }) => reducer)]) looks.set(spec, look);
  }
  return (spec) => looks.get(spec) ?? null;
}

/** The mark to stand before a method's name; nothing where there is none. */
export function key(look: Look | null): Html | '' {
  if (!look) return '';
  return html`<svg class="key ${look.className}" viewBox="-8 -8 16 16" aria-hidden="true">
    <path class="point" d="${look.shape}" />
  </svg>`;
}
