import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { updateReadme } from './options-tables.js';

const packages = fileURLToPath(new URL('../../../packages', import.meta.url));
const folders = readdirSync(packages).filter((name) => existsSync(path.join(packages, name, 'README.md')));

it.each(folders)(
  'the options in the README of %s are those of its types (npm run docs:options)',
  async (name) => {
    const { before, after } = await updateReadme(path.join(packages, name));
    expect(before).toBe(after);
  },
);

describe('updateReadme', () => {
  let folder;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'foveate-options-'));
    for (const name of ['core', 'fopru-significance'])
      cpSync(path.join(packages, name, 'src'), path.join(folder, name, 'src'), { recursive: true });
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** What becomes of a README with a table of these options. */
  async function update(
    source,
    readme = '# x\n\n<!-- options: XOptions -->\n\nold\n\n<!-- options end -->\n',
  ) {
    const x = path.join(folder, 'x');
    cpSync(path.join(folder, 'core/src'), path.join(x, 'src'), { recursive: true });
    writeFileSync(path.join(x, 'src/x.ts'), source);
    writeFileSync(path.join(x, 'README.md'), readme);
    const { after } = await updateReadme(x);
    expect(readFileSync(path.join(x, 'README.md'), 'utf8')).toBe(readme);
    return after;
  }

  const options = (doc, type = 'Mode') => `
    type Mode = 'a' | 'b';
    export interface XOptions {
      /** ${doc} */
      readonly mode?: ${type};
    }
    export const xDefaults: Required<XOptions> = { mode: 'a' };`;

  it('writes name, type, default and meaning, in a form that prettier leaves alone', async () => {
    const after = await update(options("What\n       * it is. Default `'a'`, the paper's. Beware of 0.5."));
    expect(after).toBe(`# x

<!-- options: XOptions -->

| option | type         | default            | what it does               |
| ------ | ------------ | ------------------ | -------------------------- |
| \`mode\` | \`'a' \\| 'b'\` | \`'a'\`, the paper's | What it is. Beware of 0.5. |

<!-- options end -->
`);
  });

  it.each([
    ['no docstring', options('').replace('/**  */', ''), 'XOptions.mode has no docstring'],
    [
      'another default',
      options("What. Default `'b'`."),
      `XOptions.mode is 'a' by default; its docstring says`,
    ],
    ['no default', options('What it is.'), `XOptions.mode is 'a' by default; its docstring says ""`],
    ['no such interface', 'export {};', 'No interface is XOptions'],
  ])('refuses: %s', async (_, source, message) => {
    await expect(update(source)).rejects.toThrow(message);
  });

  it('misses the table of options that have defaults', async () => {
    await expect(update(options("What. Default `'a'`."), '# x\n')).rejects.toThrow(
      'has no <!-- options: XOptions -->',
    );
  });
});
