import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { foveate, foveateHere, ID, MODEL, serveHub, temporaryFolder, type HubServer } from '../test/run.js';

let home: string;
let hub: HubServer;
beforeEach(async () => {
  home = await temporaryFolder();
  hub = await serveHub(MODEL);
  for (const name of ['HF_TOKEN', 'HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE']) vi.stubEnv(name, undefined);
  vi.stubEnv('HF_HOME', home);
  vi.stubEnv('HF_ENDPOINT', hub.endpoint);
});
afterEach(() => {
  vi.unstubAllEnvs();
});

describe('foveate pull', () => {
  it('says what is missing, shows each file, and prints the folder', async () => {
    const { code, stdout, stderr } = await foveate(['pull', ID], home);
    expect(code).toBe(0);
    expect(await readFile(path.join(stdout.trim(), 'config.json'), 'utf8')).toBe(
      await readFile(path.join(MODEL, 'config.json'), 'utf8'),
    );
    expect(stderr).toMatch(/^To fetch: 8 files, 0\.3 MB\.\n/);
    for (const name of ['tokenizer.json', 'onnx/decoder_model_merged.onnx'])
      expect(stderr).toMatch(new RegExp(`${name}  =+ 100 % of 0\\.\\d MB`));
    expect(await foveate(['pull', ID], home)).toMatchObject({ code: 0, stdout, stderr: '' });
  });

  it('exits with 2 where it cannot', async () => {
    const refused = await foveateHere(['pull', 'foveate/none']);
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toMatch(/^foveate: http.* answers 401 for foveate\/none: .*HF_TOKEN/);
    expect((await foveateHere(['pull', './tiny'])).stderr).toContain('model must be a model of the hub');
    expect((await foveateHere(['pull', ID, '--dtype', 'q3'])).stderr).toContain(
      'dtype must be one of auto, fp32',
    );
    expect(existsSync(path.join(home, 'hub'))).toBe(false);
  });
});

describe('--model owner/name', () => {
  it('asks as in the folder, and needs no network once it is fetched', async () => {
    const image = path.join(home, 'photo.png');
    await sharp({ create: { width: 64, height: 64, channels: 3, background: 'teal' } })
      .png()
      .toFile(image);
    const ask = (model: string, ...more: string[]): ReturnType<typeof foveate> =>
      foveate(['ask', '--model', model, '--max-new-tokens', '5', image, 'What is it?', ...more], home);
    const { stdout } = await ask(MODEL);
    const before = await ask(ID, '--local-only');
    expect(before).toMatchObject({ code: 2, stdout: '' });
    expect(before.stderr).toMatch(/is not in the cache .*foveate pull foveate\/tiny/);
    expect(hub.seen).toEqual([]);
    expect(await ask(ID, '--revision', 'v1')).toMatchObject({ code: 0, stdout });
    await hub.close();
    expect(await ask(ID, '--revision', 'v1', '--local-only')).toMatchObject({ code: 0, stdout });
  });

  it('is what ablate runs on, and names the folder in the results', async () => {
    const args = ['--model', ID, '--reducers', 'none', '--limit', '2', '--out', 'out', '--format', 'json'];
    const { code, stdout } = await foveate(['ablate', ...args], home);
    expect(code).toBe(0);
    expect(stdout).toContain(path.join(home, 'hub/models--foveate--tiny/snapshots'));
    // The commands that measure its memory are given the folder: the hub was asked once.
    expect(hub.seen.filter(({ url }) => url.startsWith('/api/models/foveate/tiny/revision'))).toHaveLength(1);
  });
});
