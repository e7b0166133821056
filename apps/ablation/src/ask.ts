/** `foveate ask`: one question about images. */
import {
  Lvlm,
  type GenerateOptions,
  type GenerateResult,
  type ImageReport,
  type LoadOptions,
} from '@foveate/lvlm';
import { openBackend, type BackendName } from './backend.js';
import { print } from './output.js';
import { drawKept, isLocated, writePicture } from './picture.js';
import { modelFolder, type ModelOptions } from './pull.js';
import { registry } from './registry.js';
import { createReducers } from './spec.js';

export interface AskOptions extends ModelOptions {
  readonly dtype: NonNullable<LoadOptions['dtype']>;
  readonly device: NonNullable<LoadOptions['device']>;
  readonly reduce: string;
  readonly per: NonNullable<GenerateOptions['per']>;
  readonly backend: BackendName;
  readonly raw: boolean;
  readonly maxNewTokens: number;
  readonly show: boolean;
  readonly json: boolean;
}

/** @throws FoveateError */
export async function ask(images: readonly string[], question: string, options: AskOptions): Promise<void> {
  const { reduce, per, raw, maxNewTokens, show, json } = options;
  const backend = await openBackend(options.backend);
  const reducers = createReducers(registry, reduce);
  await using model = await Lvlm.load(await modelFolder(options), {
    dtype: options.dtype,
    device: options.device,
    reducers,
    ...(backend && { backend }),
  });
  const output = streamText();
  const result = await model.generate({
    images,
    ...(raw ? { rawPrompt: question } : { prompt: question }),
    reducers,
    per,
    maxNewTokens,
    ...(!json && output),
  });
  await print(json ? `${JSON.stringify(jsonOf(images, result))}\n` : '\n');
  if (!json) process.stderr.write(describe(result, reduce));
  if (show) await writePictures(images, result.images);
}

/**
 * Prints an answer as it is made, without the space before its first word, and stops it where that does not
 * arrive.
 */
function streamText(): Required<Pick<GenerateOptions, 'onToken' | 'abortSignal'>> {
  let started = false;
  const controller = new AbortController();
  const onToken = ({ text }: { readonly text: string }): void => {
    const visible = started ? text : text.trimStart();
    started ||= visible !== '';
    print(visible).catch((error: unknown) => {
      controller.abort(error);
    });
  };
  return { onToken, abortSignal: controller.signal };
}

function jsonOf(paths: readonly string[], result: GenerateResult): unknown {
  const { text, tokenIds, timings, memory, warnings } = result;
  const images = result.images.map(({ crops }, index) => ({
    path: paths[index],
    crops: crops.map(({ grid, steps }) => ({
      grid,
      steps: steps.map(({ reducer, site, inputTokens, outputTokens, kept }) => ({
        ...{ reducer, site, inputTokens, outputTokens, kept },
      })),
    })),
  }));
  return { text, tokenIds, images, timings, memory, warnings };
}

/** What the answer cost, for people. */
function describe({ images, timings, memory, warnings }: GenerateResult, reduce: string): string {
  const sum = (of: 'inputTokens' | 'outputTokens'): number =>
    images.reduce((tokens, image) => tokens + image[of], 0);
  const ms = (value: number): string => `${value.toFixed(1)} ms`;
  const perToken = timings.tpotMs === null ? '' : `, ${ms(timings.tpotMs)} a later token`;
  return [
    `${reduce}: ${sum('outputTokens')} of ${sum('inputTokens')} visual tokens; first token after ${ms(timings.ttftMs)}${perToken}; KV cache ${(memory.kvBytes / 1e6).toFixed(2)} MB`,
    ...warnings.map((warning) => `Warning: ${warning}`),
  ]
    .map((line) => `${line}\n`)
    .join('');
}

async function writePictures(paths: readonly string[], reports: readonly ImageReport[]): Promise<void> {
  for (const [index, report] of reports.entries()) {
    const image = paths[index];
    const crops = report.crops.filter(isLocated);
    if (crops.length > 0) {
      const file = await writePicture(image, await drawKept(image, crops));
      process.stderr.write(`What was kept of ${image} is drawn in ${file}.\n`);
    } else {
      process.stderr.write(`${image}: its visual tokens fill no grid, so there is no picture of them.\n`);
    }
  }
}
