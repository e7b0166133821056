/** `foveate pull`, and how the other commands come to the folder of their model. */
import { bundleFolder, pullBundle, type BundleOptions, type DownloadProgress } from '@foveate/lvlm';
import { SingleBar } from 'cli-progress';
import { print } from './output.js';

/** Which model a command works with. */
export interface ModelOptions extends Pick<BundleOptions, 'dtype' | 'revision' | 'localOnly'> {
  /** A folder, or a model of the hub. */
  readonly model: string;
}

export type PullOptions = Pick<BundleOptions, 'dtype' | 'revision'>;

/** Fetches a model of the hub, and prints its folder. @throws FoveateError */
export async function pull(id: string, options: PullOptions): Promise<void> {
  const folder = await showing((onProgress) => pullBundle(id, { ...options, onProgress }));
  await print(`${folder}\n`);
}

/** The folder of a model, fetched from the hub where it is one of it. @throws FoveateError */
export async function modelFolder({ model, ...options }: ModelOptions): Promise<string> {
  return showing((onProgress) => bundleFolder(model, { ...options, onProgress }));
}

/** Shows on stderr what a download does: what is missing, then a bar for each file; without a terminal, lines. */
async function showing<T>(
  work: (onProgress: (progress: DownloadProgress) => void) => Promise<T>,
): Promise<T> {
  const stream = process.stderr;
  let bar: SingleBar | null = null;
  let shown = '';
  const next = ({ file, size, missing }: DownloadProgress): void => {
    if (shown === '') stream.write(`To fetch: ${missing.files} files, ${megabytes(missing.size)}.\n`);
    bar?.stop();
    shown = file;
    bar = new SingleBar({
      ...{ stream, noTTYOutput: true, notTTYSchedule: 10_000, hideCursor: false },
      format: `${file}  {bar} {percentage} % of ${megabytes(size)}`,
      ...{ barCompleteChar: '=', barIncompleteChar: '-', barsize: 20 },
    });
    bar.start(size, 0);
  };
  try {
    return await work((progress) => {
      if (progress.file !== shown) next(progress);
      bar?.update(progress.received);
    });
  } finally {
    (bar as SingleBar | null)?.stop();
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
