/** `foveate ablate`: asks one model the same questions with each reducer, and prints the table. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { TensorBackend } from '@foveate/core';
import { readDataset, runSweep, type Dataset, type SweepOptions } from '@foveate/eval';
import { Lvlm, type Device, type DtypeChoice } from '@foveate/lvlm';
import { openBackend, type BackendName } from './backend.js';
import type { Format } from './table.js';
import { formatSummary } from './table.js';
import { print } from './output.js';
import { chooseMethodRows, type ChosenRows } from './method-rows.js';
import { findPreset, type Preset } from './presets.js';
import { createProgressDisplay } from './progress.js';
import { writeDtype } from './dtype.js';
import { modelFolder, type ModelOptions } from './pull.js';
import { registry } from './registry.js';
import { expandSpecs, rowsOf } from './spec.js';
import { abortOnSignals } from './interruption.js';
import { version } from './version.js';

export interface AblateOptions extends ModelOptions {
  readonly data: string;
  /** Takes the place of `reducers` and `keep`. */
  readonly preset: string | null;
  readonly reducers: string;
  readonly keep: string;
  readonly backend: BackendName;
  readonly device: Device;
  readonly per: 'crop' | 'image';
  readonly limit: number;
  readonly seed: number;
  readonly out: string;
  readonly resume: boolean;
  readonly format: Format;
}

/** @throws FoveateError; Interrupted */
export async function ablate(options: AblateOptions): Promise<void> {
  const { data, out, limit, seed, resume, format, backend: name, dtype = 'auto', device, per } = options;
  const preset = findPreset(options.preset);
  const fixed = fixedRows(options, preset);
  const dataset = await readDataset(data);
  const model = await modelFolder(options);
  const backend = await openBackend(name);
  const display = createProgressDisplay(process.stderr);
  const tell = (line: string): void => {
    display.stop();
    process.stderr.write(`${line}\n`);
  };
  const { abortSignal, release } = abortOnSignals();
  const measurePeakRss: MeasurePeakRss = (row, question) =>
    peakRssOfAsk({ model, backend: name, dtype, device, per }, row.reducer, question, abortSignal, tell);
  let answered = 0;
  try {
    if (!fixed) tell('Each method is tried on one question first.');
    const { rows, omitted } = fixed ?? (await rowsForModel({ model, dtype, device, per }, backend, dataset));
    const summary = await runSweep({
      ...{
        model,
        dataset,
        rows,
        omitted,
        out,
        version,
        limit,
        seed,
        resume,
        abortSignal,
        preset: options.preset,
      },
      ...{ dtype, device, per },
      ...(backend && { backend: { name, tensors: backend } }),
      ...(preset && { equalBy: preset.equalBy }),
      ...((preset?.measuresPeak ?? true) && { measurePeakRss }),
      onMoved: (folder) => {
        tell(`${out} held a finished run of this configuration; it is now in ${folder}.`);
      },
      onSkipped: ({ id }, reason) => {
        tell(`Question ${id} is left out for every row: ${reason}`);
      },
      onProgress: (progress) => {
        if (progress.pass === 'answers') answered = progress.done;
        display.update(progress);
      },
    });
    display.stop();
    try {
      await print(formatSummary(summary, format));
    } finally {
      process.stderr.write(`Answers and summary are in ${out}.\n`);
    }
  } catch (error) {
    if (abortSignal.aborted)
      tell(`Stopped. ${out} holds ${answered} answers: add --resume to the same command to go on.`);
    throw error;
  } finally {
    display.stop();
    release();
  }
}

/** The rows that are what they are on every model; null of a preset that chooses for the model. */
function fixedRows({ reducers, keep }: AblateOptions, preset: Preset | null): ChosenRows | null {
  if (!preset) return { rows: expandSpecs(registry, reducers, keep), omitted: [] };
  return preset.specs && { rows: rowsOf(registry, preset.specs), omitted: [] };
}

type Run = Pick<AblateOptions, 'model' | 'device' | 'per'> & { readonly dtype: DtypeChoice };

async function rowsForModel(
  { model: folder, dtype, device, per }: Run,
  backend: TensorBackend<unknown> | null,
  { questions }: Dataset,
): Promise<ChosenRows> {
  await using model = await Lvlm.load(folder, { dtype, device, ...(backend && { backend }) });
  return await chooseMethodRows(registry, model, questions, per);
}

type MeasurePeakRss = NonNullable<SweepOptions['measurePeakRss']>;

/**
 * The peak memory of `foveate ask --json` with the same reducer and question: a process that does nothing
 * else.
 */
async function peakRssOfAsk(
  { model, backend, dtype, device, per }: Run & Pick<AblateOptions, 'backend'>,
  reducer: string,
  { image, question }: Parameters<MeasurePeakRss>[1],
  signal: AbortSignal,
  tell: (line: string) => void,
): Promise<number | null> {
  const command = [...process.execArgv, process.argv[1], 'ask', '--json', '--max-new-tokens', '16'];
  const load = ['--model', model, '--backend', backend, '--dtype', writeDtype(dtype), '--device', device];
  const call = [...load, '--per', per, '--reduce', reducer, '--', image, question];
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [...command, ...call], { signal });
    return (JSON.parse(stdout) as { memory: { peakRssBytes: number | null } }).memory.peakRssBytes;
  } catch (error) {
    signal.throwIfAborted();
    tell(`The peak memory of ${reducer} could not be measured: ${(error as Error).message}`);
    return null;
  }
}
