import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';

test('the example of the README runs word for word, into another folder', async () => {
  const out = await mkdtemp(path.join(tmpdir(), 'foveate-readme-'));
  onTestFinished(() => rm(out, { recursive: true }));
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8');
  const example = /```js\n(.*?)```/s.exec(readme)?.[1] ?? '';
  const source = new URL('../.reports/readme-example.mjs', import.meta.url);
  await mkdir(new URL('.', source), { recursive: true });
  await writeFile(
    source,
    example
      .replace("'@foveate/eval'", "'../src/index.ts'")
      .replace("out: 'out'", `out: ${JSON.stringify(out)}`),
  );
  const log = vi.spyOn(console, 'log').mockReturnValue();
  // eslint-disable-next-line foveate/imports -- the file that this test has just written
  await import(/* @vite-ignore */ source.href);
  expect(log.mock.calls.map(([reducer]) => reducer as unknown)).toEqual(['none', 'fopru-rank']);
  for (const [, accuracy, interval, ttft] of log.mock.calls) {
    expect(accuracy).toBeLessThanOrEqual(1);
    expect(interval).toHaveLength(2);
    expect(ttft).toBeGreaterThan(0);
  }
  log.mockRestore();
});
