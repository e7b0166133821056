/** Starts the command from source, as its users start it built. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished, vi } from 'vitest';
import { main } from '../src/main.js';

export { ID, serveHub, type HubServer } from '../../../packages/lvlm/test/hub-server.js';

/** The bundle with random weights: its answers mean nothing, and are the same each time. */
export const MODEL: string = fileURLToPath(
  new URL('../../../packages/lvlm/fixtures/random-llava', import.meta.url),
);

/** The command from source, for a shell or a spawn. */
export const COMMAND: readonly [string, ...string[]] = [
  process.execPath,
  '--import',
  import.meta.resolve('tsx'),
  '--conditions=@foveate/source',
  fileURLToPath(new URL('../src/cli.ts', import.meta.url)),
];

export interface Ended {
  /** Null where a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

/** Starts `foveate ARGS` in `folder`. @param stdout a file descriptor; without one it is read */
export function start(args: readonly string[], folder: string, stdout: number | 'pipe' = 'pipe'): Running {
  const [node, ...words] = COMMAND;
  const child = spawn(node, [...words, ...args], { cwd: folder, stdio: ['ignore', stdout, 'pipe'] });
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text;
    });
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (code, signal) => {
      resolve({ code, signal, ...texts });
    });
  });
  return { child, ended };
}

export function foveate(args: readonly string[], folder: string): Promise<Ended> {
  return start(args, folder).ended;
}

/** The command in this process: quicker, for what ends before it starts a process of its own. */
export async function foveateHere(args: readonly string[]): Promise<Omit<Ended, 'signal'>> {
  const texts = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((text, ...more) => {
      texts[name] += String(text);
      const written = more.at(-1);
      if (typeof written === 'function') written();
      return true;
    }),
  );
  try {
    return { code: await main(args), ...texts };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

/** A folder that is removed after the test. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'foveate-command-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  return folder;
}
