import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fopruRank } from '@foveate/fopru-rank';
import { Lvlm } from '@foveate/lvlm';
import sharp from 'sharp';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { foveate, foveateHere, MODEL, start, temporaryFolder } from '../test/run.js';

let folder: string;
const QUESTION = 'What is it?';
beforeEach(async () => {
  folder = await temporaryFolder();
  const image = sharp({ create: { width: 64, height: 64, channels: 3, background: 'teal' } });
  await image.png().toFile(path.join(folder, 'photo.png'));
});

const ask = (...args: string[]): ReturnType<typeof foveate> =>
  foveate(['ask', '--model', MODEL, '--max-new-tokens', '5', ...args], folder);

describe('foveate ask', () => {
  it('prints the answer alone on stdout, and what it cost on stderr', async () => {
    const { code, stdout, stderr } = await ask('photo.png', QUESTION, '--reduce', 'fopru-rank:keep=0.25');
    expect(code).toBe(0);
    await using model = await Lvlm.load(MODEL);
    const reducers = [fopruRank()];
    const images = [path.join(folder, 'photo.png')];
    const { text } = await model.generate({ images, prompt: QUESTION, reducers, maxNewTokens: 5 });
    expect(stdout.trim()).toBe(text);
    expect(stdout.endsWith('\n')).toBe(true);
    expect(stderr).toMatch(/^fopru-rank:keep=0\.25: 16 of 64 visual tokens; first token after [\d.]+ ms/);
  });

  it('stops where nobody reads the answer, and says so', async () => {
    const args = ['ask', '--model', MODEL, '--max-new-tokens', '200', 'photo.png', QUESTION];
    const { child, ended } = start(args, folder);
    child.stdout?.destroy();
    const { code, stderr } = await ended;
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: 'foveate: stdout cannot be written: write EPIPE.\n',
    });
  });

  it('--json prints one object of the form that the help states', async () => {
    const reduce = 'fopru-row:keep=0.5+fopru-rank:keep=0.25';
    const { code, stdout } = await ask('photo.png', 'photo.png', QUESTION, '--json', '--reduce', reduce);
    expect(code).toBe(0);
    const result = JSON.parse(stdout) as {
      tokens: number[];
      images: { path: string; crops: { steps: { kept: number[] }[] }[] }[];
    };
    expect(Object.keys(result)).toEqual(['text', 'tokenIds', 'images', 'timings', 'memory', 'warnings']);
    expect(result).toMatchObject({
      tokenIds: expect.any(Array) as unknown,
      timings: { ttftMs: expect.any(Number) as unknown },
      memory: { kvBytes: expect.any(Number) as unknown },
      warnings: [],
    });
    expect(result.images).toHaveLength(2);
    const [image] = result.images;
    expect(Object.keys(image)).toEqual(['path', 'crops']);
    expect(image).toMatchObject({ path: 'photo.png', crops: [{}] });
    const [crop] = image.crops;
    expect(crop).toMatchObject({
      grid: { rows: 8, columns: 8 },
      steps: [
        { reducer: 'fopru-row', inputTokens: 64, outputTokens: 32 },
        { reducer: 'fopru-rank', inputTokens: 32, outputTokens: 8 },
      ],
    });
    for (const { kept } of crop.steps) expect(kept).toEqual([...kept].sort((a, b) => a - b));
    const [rows, tokens] = crop.steps.map(({ kept }) => kept);
    expect(tokens).toHaveLength(8);
    expect(rows).toEqual(expect.arrayContaining(tokens)); // both count the encoder's tokens
  });

  it.each(['js', 'wasm'])('--backend %s gives the same answer', async (backend) => {
    const call = ['photo.png', QUESTION, '--json', '--reduce', 'fopru-row:keep=0.5+fopru-rank:keep=0.25'];
    const [here, there] = [await ask(...call), await ask(...call, '--backend', backend)];
    expect(there).toMatchObject({ code: 0, stderr: '' });
    const [{ text, tokenIds, images }, other] = [here, there].map(
      ({ stdout }) => JSON.parse(stdout) as { text: string; tokenIds: number[]; images: unknown },
    );
    expect(other).toMatchObject({ text, tokenIds, images });
  });

  it('--raw takes the prompt word for word', async () => {
    const raw = await ask('photo.png', `<image>${QUESTION}`, '--raw', '--json');
    expect(raw.code).toBe(0);
    await using model = await Lvlm.load(MODEL);
    const images = [path.join(folder, 'photo.png')];
    const expected = await model.generate({ images, rawPrompt: `<image>${QUESTION}`, maxNewTokens: 5 });
    expect(JSON.parse(raw.stdout)).toMatchObject({ tokenIds: expected.tokenIds });
    expect(await ask('photo.png', QUESTION, '--raw')).toMatchObject({ code: 2, stdout: '' });
  });

  it('tells a question that is too long for the model, however long the command line is', async () => {
    vi.stubEnv('ORT_DISABLE_TELEMETRY', undefined); // onnxruntime's telemetry crashes on command lines beyond 16 kB
    onTestFinished(() => void vi.unstubAllEnvs());
    const { code, stdout, stderr } = await ask('photo.png', 'x'.repeat(17_000));
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^foveate: The prompt has at least 170\d\d tokens/);
  });

  it('--show draws beside what is there, never over it', async () => {
    await writeFile(path.join(folder, 'photo-kept.png'), 'mine');
    const { code, stderr } = await ask('photo.png', QUESTION, '--show', '--reduce', 'uniform:count=4');
    expect(code).toBe(0);
    expect(stderr).toContain('What was kept of photo.png is drawn in photo-kept-2.png.');
    expect(await readFile(path.join(folder, 'photo-kept.png'), 'utf8')).toBe('mine');
    const picture = await sharp(path.join(folder, 'photo-kept-2.png')).metadata();
    expect(picture).toMatchObject({ format: 'png', width: 512, height: 512 });
    expect(await readdir(folder)).toHaveLength(3);
  });

  it.each<[string, string[], string]>([
    ['no image', [QUESTION], 'ask needs an image and a question; there is only "What is it?"'],
    ['nothing', [], 'missing required argument'],
    ['an image that is not there', ['nowhere.png', QUESTION], 'there is no file '],
    ['a URL', ['https://example.org/a.png', QUESTION], 'is a URL'],
    ['a folder', ['.', QUESTION], 'is no file'],
    ['an image that is none', ['text.png', QUESTION], 'cannot be decoded'],
    ['an empty question', ['photo.png', ''], 'empty'],
    ['the image token in a question', ['photo.png', 'What is <image>?'], '<image>'],
    ['an unknown method', ['photo.png', QUESTION, '--reduce', 'fopro'], 'Known reducers: fopru-rank'],
    ['no tokens to generate', ['photo.png', QUESTION, '--max-new-tokens', '0'], 'an integer from 1'],
    [
      'a backend that is not installed',
      ['photo.png', QUESTION, '--backend', 'tfjs-node-gpu'],
      '@tensorflow/tfjs-node-gpu is not installed (npm install @tensorflow/tfjs-node-gpu)',
    ],
    [
      'a backend that is none',
      ['photo.png', QUESTION, '--backend', 'webgl'],
      'Allowed choices are onnx, js,',
    ],
    ['a misspelt option', ['photo.png', QUESTION, '--reducer', 'none'], 'Did you mean --reduce?'],
    ['a bundle that is none', ['photo.png', QUESTION, '--model', 'src'], 'config.json'],
    [
      'a row after single tokens',
      ['photo.png', QUESTION, '--reduce', 'fopru-rank+fopru-row'],
      'put fopru-row before fopru-rank',
    ],
  ])('%s: exit code 2 and one message', async (_, args, message) => {
    await writeFile(path.join(folder, 'text.png'), 'no image');
    const files = args.map((arg) =>
      arg.endsWith('.png') && !arg.includes(':') ? path.join(folder, arg) : arg,
    );
    const { code, stdout, stderr } = await foveateHere(['ask', '--model', MODEL, ...files]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
    expect(stderr).not.toMatch(/^ {4}at /m); // no stack
  });
});
