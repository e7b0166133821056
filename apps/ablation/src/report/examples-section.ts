/** The chosen questions: the image, what the encoder attended to, and what each method kept and answered. */
import path from 'node:path';
import { html } from 'hono/html';
import type { Html } from './html.js';
import type { Inspection, MethodInspection } from './inspect.js';
import { key, type LookOf } from './looks.js';
import { definitions, heatPicture, litPicture, pageImage, plainPicture, type PageImage } from './pictures.js';

export async function examplesSection(inspections: readonly Inspection[], lookOf: LookOf): Promise<Html> {
  const files = [...new Set(inspections.map(({ question }) => question.image))];
  const images = await Promise.all(files.map((file, index) => pageImage(file, `image-${index}`)));
  const examples = await Promise.all(
    inspections.map((inspection, index) =>
      example(inspection, images[files.indexOf(inspection.question.image)], index, lookOf),
    ),
  );
  return html`${definitions(images)}
    <p class="notes">
      Lit: what reached the language model. A patch that was merged with others is as bright as its weight;
      patches that only went into one token together share a frame. Significance is the paper's (Eq. 4), from
      black, the lowest of the image, over purple and orange to yellow, the highest.
    </p>
    ${examples}`;
}

async function example(
  inspection: Inspection,
  image: PageImage,
  index: number,
  lookOf: LookOf,
): Promise<Html> {
  const { question, methods } = inspection;
  const crowded = question.crowded ? ', a crowded scene' : '';
  return html`<article aria-labelledby="example-${index}">
    <h3 id="example-${index}">${question.question}</h3>
    <p>
      Right answer: <strong>${question.answer}</strong>. Question <code>${question.id}</code>,
      ${question.kind}${crowded}, image <code>${path.basename(question.image)}</code>.
    </p>
    <div class="pictures large">
      <figure>
        ${plainPicture(image, `The image ${path.basename(question.image)}`)}
        <figcaption>The image</figcaption>
      </figure>
      ${await significanceFigure(inspection, image)}
    </div>
    <div class="pictures">${methods.map((method) => methodFigure(method, inspection, image, lookOf))}</div>
  </article>`;
}

async function significanceFigure({ attention, place }: Inspection, image: PageImage): Promise<Html | ''> {
  if (!attention || !place) return '';
  return html`<figure>
    ${await heatPicture(image, place, attention.significance, 'The significance of each patch, as a heat map')}
    <figcaption>Significance</figcaption>
  </figure>`;
}

function methodFigure(
  method: MethodInspection,
  { place }: Inspection,
  image: PageImage,
  lookOf: LookOf,
): Html {
  const { reducer, text, correct, textNow, inputTokens, outputTokens, light, merged } = method;
  const kept = `${outputTokens} of ${inputTokens} tokens`;
  const description = `What ${reducer} kept of the image: ${kept}`;
  return html`<figure class="${correct ? 'right' : 'wrong'}">
    ${place ? litPicture(image, place, light, merged, description) : ''}
    <figcaption>
      <span>${key(lookOf(reducer))}<code>${reducer}</code></span>
      <span>${kept}</span>
      <span class="answer"><b>${correct ? '✓ right' : '✗ wrong'}:</b> <q>${text}</q></span>
      ${textNow === null ? '' : html`<span>Asked again for this picture, it answered <q>${textNow}</q>.</span>`}
    </figcaption>
  </figure>`;
}
