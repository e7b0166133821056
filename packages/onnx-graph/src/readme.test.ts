import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { expect, test, vi } from 'vitest';
import { fixture } from '../fixtures/run.js';

test('the example of the README runs word for word, on a fixture', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const example = /```js\n(.*?)```/s.exec(readme)?.[1] ?? '';
  const source = new URL('../.reports/readme-example.mjs', import.meta.url);
  mkdirSync(new URL('.', source), { recursive: true });
  writeFileSync(
    source,
    example
      .replace("'@foveate/onnx-graph'", "'../src/index.ts'")
      .replace("'vision_encoder.onnx'", JSON.stringify(fixture('clip-eager-17.onnx'))),
  );
  const log = vi.spyOn(console, 'log').mockReturnValue();
  // eslint-disable-next-line foveate/imports -- the file that this test has just written
  await import(/* @vite-ignore */ source.href);
  expect(log.mock.calls).toEqual([[[1, 16]]]);
  log.mockRestore();
});
