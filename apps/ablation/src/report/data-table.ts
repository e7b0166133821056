/** Tables of the report. */
import { html } from 'hono/html';
import type { TextTable } from '../table.js';
import type { Html } from './html.js';
import { key, type LookOf } from './looks.js';

/**
 * A table that the page's script makes sortable: cells that begin with a number carry its value, names of
 * methods their mark.
 */
export function dataTable({ head, rows }: TextTable, caption: string, lookOf: LookOf = () => null): Html {
  return html`<div class="scroll" role="region" aria-label="${caption}" tabindex="0">
    <table data-sortable>
      <caption>
        ${caption}
      </caption>
      <thead>
        <tr>
          ${head.map((name) => html`<th scope="col">${name}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          ([name, ...cells]) =>
            html`<tr>
              <th scope="row">${key(lookOf(name))}${name}</th>
              ${cells.map((text) => dataCell(text, lookOf))}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function dataCell(text: string, lookOf: LookOf): Html {
  const value = Number.parseFloat(text.replace(/^</, ''));
  if (!Number.isNaN(value)) return html`<td data-value="${value}">${text}</td>`;
  return /^[a-z]/.test(text)
    ? html`<td class="name">${key(lookOf(text))}${text}</td>`
    : html`<td>${text}</td>`;
}
