import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { expect, test, vi } from 'vitest';
import { feeds } from '../fixtures/decoders/feeds.js';
import { decoderFile } from '../fixtures/decoders/run.js';
import { fixture } from '../fixtures/run.js';
import { describeModel } from './index.js';
import { readModel } from './files.js';

test.each([
  { what: 'signals', index: 0, printed: [[[1, 16]]] },
  { what: 'pruning', index: 1, printed: [[[12]], [14, 12]] },
])('the example of the README on $what runs word for word, on a fixture', async ({ index, printed }) => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const example = [...readme.matchAll(/```js\n(.*?)```/gs)][index][1];
  const source = new URL(`../.reports/readme-example-${index}.mjs`, import.meta.url);
  mkdirSync(new URL('.', source), { recursive: true });
  writeFileSync(
    source,
    example
      .replace("'@foveate/onnx-graph'", "'../src/index.ts'")
      .replace("'@foveate/onnx-graph/files'", "'../src/files.ts'")
      .replace("'./my-decoder.js'", "'../fixtures/decoders/feeds.ts'")
      .replace("'decoder.onnx'", JSON.stringify(decoderFile('llama-group-query')))
      .replace("'vision_encoder.onnx'", JSON.stringify(fixture('clip-eager-17.onnx'))),
  );
  const log = vi.spyOn(console, 'log').mockReturnValue();
  // eslint-disable-next-line foveate/imports -- the file that this test has just written
  await import(/* @vite-ignore */ source.href);
  expect(log.mock.calls).toEqual(printed);
  log.mockRestore();
});

test('the feeds of the second example are all that its decoder takes', () => {
  const { inputs } = describeModel(readModel(decoderFile('llama-group-query')));
  expect(Object.keys(feeds)).toEqual(inputs.map(({ name }) => name));
});
