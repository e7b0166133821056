import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { questionsFile } from '@foveate/tiny-llava';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { readDataset, type Question } from './dataset.js';
import { DatasetError } from './errors.js';

let folder: string;
beforeEach(async () => {
  const parent = await mkdtemp(path.join(tmpdir(), 'foveate-dataset-'));
  onTestFinished(() => rm(parent, { recursive: true }));
  await writeFile(path.join(parent, 'outside.png'), 'x');
  folder = path.join(parent, 'data');
  await mkdir(path.join(folder, 'images'), { recursive: true });
  await writeFile(path.join(folder, 'images', '1.png'), 'x');
});

const good = { id: 'a', image: 'images/1.png', kind: 'count', question: 'How many?', answer: '3' };

async function read(...lines: (string | Record<string, unknown>)[]): ReturnType<typeof readDataset> {
  const file = path.join(folder, 'questions.jsonl');
  await writeFile(
    file,
    lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'),
  );
  return readDataset(file);
}

describe('readDataset', () => {
  it('reads questions in their order, images as absolute paths', async () => {
    const { questions } = await read(good, '', { ...good, id: 'b', crowded: true, source: 'elsewhere' }, '');
    const image = path.join(folder, 'images', '1.png');
    const first: Question = { ...good, image, imageBytes: 1, crowded: false };
    expect(questions).toEqual([first, { ...first, id: 'b', crowded: true }]);
  });

  it('reads Windows line ends and a byte order mark', async () => {
    const { questions } = await read(
      `\uFEFF${JSON.stringify(good)}\r`,
      `${JSON.stringify({ ...good, id: 'b' })}\r`,
    );
    expect(questions.map(({ id }) => id)).toEqual(['a', 'b']);
  });

  it('has another hash where a question is another, and another size where an image is', async () => {
    const { sha256 } = await read(good);
    expect((await read({ ...good, answer: '4' })).sha256).not.toBe(sha256);
    await writeFile(path.join(folder, 'images', '1.png'), 'other');
    const { questions, ...now } = await read(good);
    expect(now.sha256).toBe(sha256);
    expect(questions[0].imageBytes).toBe(5);
  });

  it.each<[string, string | Record<string, unknown>, string]>([
    ['half a line', JSON.stringify(good).slice(0, 40), 'no JSON'],
    ['an array', '[1]', 'one JSON object'],
    ['null', 'null', 'one JSON object'],
    ['no id', { ...good, id: undefined }, '"id" must be a text'],
    [
      'a number as an answer',
      { ...good, answer: 3 },
      '"answer" must be a text that is not empty; received 3',
    ],
    ['an empty question', { ...good, question: ' ' }, '"question"'],
    ['crowded in words', { ...good, crowded: 'yes' }, '"crowded" must be true or false'],
    ['a kind with spaces', { ...good, kind: 'my kind' }, '"kind" must be of at most 200 lower-case letters'],
    ['__proto__ as a kind', `${JSON.stringify(good).slice(0, -1)},"kind":"__proto__"}`, '"kind" must be'],
    ['crowded as a kind', { ...good, kind: 'crowded' }, 'is no kind'],
    ['presence answered with a word', { ...good, kind: 'presence', answer: 'red' }, '"yes" or "no"'],
    ['choice answered with a text', { ...good, kind: 'choice', answer: 'red' }, 'one capital letter'],
    ['a missing image', { ...good, image: 'images/2.png' }, 'there is no image'],
    ['a folder as an image', { ...good, image: 'images' }, 'is no file'],
    ['an image outside', { ...good, image: '../outside.png' }, 'outside the data set'],
    ['an image outside, by a detour', { ...good, image: 'images/../../outside.png' }, 'outside the data set'],
    ['an absolute path', { ...good, image: '/etc/hostname' }, 'outside the data set'],
    ['a URL', { ...good, image: 'https://example.org/1.png' }, 'there is no image'],
    ['a path with a NUL', { ...good, image: 'images/1.png\0' }, 'there is no image'],
    ['an id with a comma', { ...good, id: 'a,b' }, '"id" must have at most 200 characters, no comma'],
    ['an id with space around it', { ...good, id: ' a' }, '"id" must have'],
    ['an id of 201 letters', { ...good, id: 'a'.repeat(201) }, `received "${'a'.repeat(60)}..."`],
    ['a kind of 201 letters', { ...good, kind: 'a'.repeat(201) }, `received "${'a'.repeat(60)}..."`],
    [
      'a list as an answer, and shows its beginning',
      { ...good, answer: Array.from({ length: 99_999 }, () => 1) },
      `received [1,${'1,'.repeat(28)}1...`,
    ],
    [
      'lists in lists, deeper than JSON.stringify goes',
      `${JSON.stringify(good).slice(0, -1)},"answer":${'['.repeat(2e5)}${']'.repeat(2e5)}}`,
      '"answer" must be a text that is not empty; received a value nested too deeply',
    ],
    ['an id that was there', { ...good, id: 'first' }, 'id "first" is that of line 1 too'],
  ])('refuses %s, and names the line', async (_, line, message) => {
    const refusal = read({ ...good, id: 'first' }, '', line);
    await expect(refusal).rejects.toThrow(DatasetError);
    await expect(refusal).rejects.toThrow('questions.jsonl, line 3: ');
    await expect(refusal).rejects.toThrow(message);
  });

  it.each(['constructor', 'a'.repeat(200)])('takes %s as a kind like any other', async (kind) => {
    expect((await read({ ...good, kind })).questions[0].kind).toBe(kind);
  });

  it('refuses an image that is a link to the outside, and takes one to the inside', async () => {
    await symlink(path.join('..', '..', 'outside.png'), path.join(folder, 'images', 'out.png'));
    await symlink('1.png', path.join(folder, 'images', 'in.png'));
    await expect(read({ ...good, image: 'images/out.png' })).rejects.toThrow('is a link out');
    expect((await read({ ...good, image: 'images/in.png' })).questions).toHaveLength(1);
  });

  it('refuses what is no file of text', async () => {
    await expect(readDataset(path.join(folder, 'none.jsonl'))).rejects.toThrow('There is no file');
    await expect(readDataset(folder)).rejects.toThrow('is no file');
    await expect(read('')).rejects.toThrow('has no questions');
    const binary = path.join(folder, 'binary');
    await writeFile(binary, Uint8Array.of(0x7b, 0xff, 0xfe));
    await expect(readDataset(binary)).rejects.toThrow('is not UTF-8');
  });
});

describe('the shipped questions', () => {
  it('are valid, at least 900 on at least 250 images, of every kind', async () => {
    const { questions } = await readDataset(questionsFile);
    expect(questions.length).toBeGreaterThanOrEqual(900);
    expect(new Set(questions.map(({ image }) => image)).size).toBeGreaterThanOrEqual(250);
    const kinds = new Set(questions.filter(({ crowded }) => !crowded).map(({ kind }) => kind));
    expect([...kinds].sort()).toEqual(
      ['attribute', 'choice', 'count', 'number', 'presence', 'relation', 'side'].sort(),
    );
    expect(questions.some(({ crowded }) => crowded)).toBe(true);
  });
});
