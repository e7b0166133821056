/** Runs a script in a process of its own: for what a process leaves behind, and how it ends. */
import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { FIXTURE, temporaryFolder } from './bundles.js';

/** How a process ended, and what it wrote. */
export interface Ended {
  /** Null where a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a child is run with. */
export interface ChildOptions {
  /** Set in its environment; undefined: taken out of it. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Sent to it as soon as it writes to stdout. */
  readonly signal?: NodeJS.Signals;
  /** The bundle. Default: the fixture. */
  readonly bundle?: string;
}

/** The package's entry, from source. */
const ENTRY = fileURLToPath(new URL('../src/index.ts', import.meta.url));

/** Runs `script`, a module in whose scope are `Lvlm` and the path `bundle`. */
export async function runChild(
  script: string,
  { env = {}, signal, bundle = FIXTURE }: ChildOptions = {},
): Promise<Ended> {
  const file = path.join(await temporaryFolder(), 'child.mts');
  const scope = `import { Lvlm } from ${JSON.stringify(ENTRY)};\nconst bundle = ${JSON.stringify(bundle)};\n`;
  await writeFile(file, scope + script);
  const node = ['--import', import.meta.resolve('tsx'), '--conditions=@foveate/source', file];
  const child = spawn(process.execPath, node, {
    env: { ...process.env, TSX_DISABLE_CACHE: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text;
      if (signal && name === 'stdout') child.kill(signal);
    });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, by) => {
      resolve({ code, signal: by, ...texts });
    });
  });
}
