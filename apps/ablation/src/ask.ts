/** `foveate ask`: one question about images. */
import { Lvlm, type GenerateResult, type ImageReport } from '@foveate/lvlm';
import { openBackend, type BackendName } from './backend.js';
import { drawKept, writePicture, type LocatedReport } from './picture.js';
import { registry } from './registry.js';
import { createReducers } from './spec.js';

export interface AskOptions {
  readonly model: string;
  readonly reduce: string;
  readonly backend: BackendName;
  readonly raw: boolean;
  readonly maxNewTokens: number;
  readonly show: boolean;
  readonly json: boolean;
}

/** @throws FoveateError */
export async function ask(images: readonly string[], question: string, options: AskOptions): Promise<void> {
  const { reduce, raw, maxNewTokens, show, json } = options;
  const backend = await openBackend(options.backend);
  const reducers = createReducers(registry, reduce);
  await using model = await Lvlm.load(options.model, { reducers, ...(backend && { backend }) });
  const result = await model.generate({
    images,
    ...(raw ? { rawPrompt: question } : { prompt: question }),
    reducers,
    maxNewTokens,
    ...(!json && { onToken: streamText() }),
  });
  if (json) process.stdout.write(`${JSON.stringify(jsonOf(images, result))}\n`);
  else process.stdout.write('\n');
  if (!json) process.stderr.write(describe(result, reduce));
  if (show) await writePictures(images, result.images);
}

/** Writes an answer as it is made, without the space before its first word. */
function streamText(): (token: { readonly text: string }) => void {
  let started = false;
  return ({ text }) => {
    const visible = started ? text : text.trimStart();
    started ||= visible !== '';
    process.stdout.write(visible);
  };
}

function jsonOf(paths: readonly string[], result: GenerateResult): unknown {
  const { text, tokens, timings, memory, warnings } = result;
  const images = result.images.map(({ grid, stages }, index) => ({
    path: paths[index],
    grid,
    stages: stages.map(({ reducer, inputTokens, outputTokens, kept }) => ({
      reducer,
      inputTokens,
      outputTokens,
      kept,
    })),
  }));
  return { text, tokens, images, timings, memory, warnings };
}

/** What the answer cost, for people. */
function describe({ images, timings, memory, warnings }: GenerateResult, reduce: string): string {
  const sum = (of: 'inputTokens' | 'outputTokens'): number =>
    images.reduce((tokens, image) => tokens + image[of], 0);
  const ms = (value: number): string => `${value.toFixed(1)} ms`;
  const perToken = timings.tpot === null ? '' : `, ${ms(timings.tpot)} a later token`;
  return [
    `${reduce}: ${sum('outputTokens')} of ${sum('inputTokens')} visual tokens; first token after ${ms(timings.ttft)}${perToken}; KV cache ${(memory.kvBytes / 1e6).toFixed(2)} MB`,
    ...warnings.map((warning) => `Warning: ${warning}`),
  ]
    .map((line) => `${line}\n`)
    .join('');
}

async function writePictures(paths: readonly string[], reports: readonly ImageReport[]): Promise<void> {
  for (const [index, report] of reports.entries()) {
    const image = paths[index];
    if (isLocated(report)) {
      const file = await writePicture(image, await drawKept(image, report));
      process.stderr.write(`What was kept of ${image} is drawn in ${file}.\n`);
    } else {
      process.stderr.write(`${image}: its visual tokens fill no grid, so there is no picture of them.\n`);
    }
  }
}

function isLocated(report: ImageReport): report is LocatedReport {
  return report.grid !== null && report.region !== null;
}
