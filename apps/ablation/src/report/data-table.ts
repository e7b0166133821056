/** Tables of the report. */
import { html } from 'hono/html';
import type { TextTable } from '../table.js';
import type { Html } from './html.js';

/** A table that the page's script makes sortable: cells that begin with a number carry its value. */
export function dataTable({ head, rows }: TextTable, caption: string): Html {
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
              <th scope="row">${name}</th>
              ${cells.map(dataCell)}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function dataCell(text: string): Html {
  const value = Number.parseFloat(text.replace(/^</, ''));
  if (!Number.isNaN(value)) return html`<td data-value="${value}">${text}</td>`;
  return /^[a-z]/.test(text) ? html`<td class="name">${text}</td>` : html`<td>${text}</td>`;
}
