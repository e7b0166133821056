import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { imagesDirectory, modelDirectory, questionsFile } from './index.js';

/** Bytes of all files below a folder. */
const bytesOf = (folder: string): number =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, { parentPath, name }) => sum + statSync(path.join(parentPath, name)).size, 0);

describe('what the package ships', () => {
  it('is a bundle of at most 14 MB', () => {
    expect(readdirSync(modelDirectory)).toEqual(
      expect.arrayContaining(['config.json', 'tokenizer.json', 'preprocessor_config.json', 'onnx']),
    );
    expect(bytesOf(modelDirectory)).toBeLessThanOrEqual(14e6);
  });

  it('is questions with every image that they name, and no other, of at most 10 MB', () => {
    const named = readFileSync(questionsFile, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { image: string }).image);
    const images = readdirSync(imagesDirectory).map((name) => `images/${name}`);
    expect(images.sort()).toEqual([...new Set(named)].sort());
    expect(bytesOf(path.dirname(questionsFile))).toBeLessThanOrEqual(10e6);
  });
});
