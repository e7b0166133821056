/** How concentrated the encoder's attention is, layer by layer: the paper's Figure 1 for this model. */
import { html } from 'hono/html';
import { dataTable } from './data-table.js';
import type { Html } from './html.js';
import type { Inspection } from './inspect.js';
import { sharePlot, type LayerShare } from './plots.js';

export function attentionSection(inspections: readonly Inspection[]): Html {
  const shares = new Map(
    inspections.flatMap(({ question, attention }) =>
      attention ? [[question.image, attention.share] as const] : [],
    ),
  );
  if (shares.size === 0) return html`<p>The attention of this encoder cannot be read from its graph.</p>`;
  const layers = layerShares([...shares.values()]);
  const percent = (share: number): string => (share * 100).toFixed(1);
  const table = {
    head: ['layer', 'mean %', 'lowest %', 'highest %'],
    rows: layers.map(({ mean, lowest, highest }, layer) => [
      String(layer),
      ...[mean, lowest, highest].map(percent),
    ]),
  };
  return html`<figure class="narrow">
      <figcaption>Share of attention held by the top 25 % of tokens</figcaption>
      ${sharePlot(layers)}
      <details>
        <summary>Numbers of this plot</summary>
        ${dataTable(table, 'Share of attention held by the top 25 % of tokens, by encoder layer')}
      </details>
    </figure>
    <p class="notes">
      Of the attention that the tokens of an image receive, how much goes to the quarter that receives most;
      mean over ${shares.size === 1 ? 'the one image' : `the ${shares.size} images`} of the examples, with the
      range from the lowest to the highest image. The layers are those in the graph: exports leave out what
      the features do not need. The last one shown makes the significance.
    </p>`;
}

/** @param images [images][layers] */
function layerShares(images: readonly Float32Array[]): LayerShare[] {
  return Array.from(images[0], (_, layer) => {
    const shares = images.map((image) => image[layer]);
    return {
      mean: shares.reduce((sum, share) => sum + share, 0) / shares.length,
      lowest: Math.min(...shares),
      highest: Math.max(...shares),
    };
  });
}
