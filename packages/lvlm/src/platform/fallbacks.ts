/**
 * What a session leaves to the processor. onnxruntime says so in a profile alone, so that of the first run is
 * read: nodes on numbers that were to be on the device. Sizes and places are always worked out on the processor.
 */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** What is read of an event of a profile. */
interface ProfileEvent {
  readonly cat?: string;
  readonly name?: string;
  readonly args?: {
    readonly provider?: string;
    readonly op_name?: string;
    readonly output_type_shape?: readonly Readonly<Record<string, unknown>>[];
  };
}

/** A profile of one session's first run. */
export class FirstRunProfile {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async begin(): Promise<FirstRunProfile> {
    return new FirstRunProfile(await mkdtemp(path.join(tmpdir(), 'foveate-profile-')));
  }

  /** For the session's option `profileFilePrefix`. */
  get prefix(): string {
    return path.join(this.#folder, 'run');
  }

  /** Names of the operators, once each, that made floating-point numbers on the processor. */
  async operatorsOnCpu(): Promise<string[]> {
    const [file] = await readdir(this.#folder);
    const events = JSON.parse(await readFile(path.join(this.#folder, file), 'utf8')) as ProfileEvent[];
    return [...new Set(events.filter(isFallback).map(({ args }) => args?.op_name ?? 'unknown'))];
  }

  async remove(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }
}

function isFallback({ cat, name, args }: ProfileEvent): boolean {
  if (cat !== 'Node' || !name?.endsWith('_kernel_time') || args?.provider !== 'CPUExecutionProvider')
    return false;
  return (args.output_type_shape ?? []).some((output) =>
    Object.keys(output).some((type) => type.startsWith('float')),
  );
}
