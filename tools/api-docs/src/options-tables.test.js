import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { methodsOf, updateReadme } from './options-tables.js';

const packages = fileURLToPath(new URL('../../../packages', import.meta.url));
const folders = readdirSync(packages).filter((name) => existsSync(path.join(packages, name, 'README.md')));

it.each(folders)(
  'the options in the README of %s are those that it declares (npm run docs:options)',
  async (name) => {
    const { before, after } = await updateReadme(
      path.join(packages, name),
      methodsOf(await import(`@foveate/${name}`)),
    );
    expect(before).toBe(after);
  },
);

describe('updateReadme', () => {
  let folder;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'foveate-options-'));
    cpSync(path.join(packages, 'core/src'), path.join(folder, 'core/src'), { recursive: true });
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
    }`;

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
    ['no such interface', 'export {};', 'No interface is XOptions'],
  ])('refuses: %s', async (_, source, message) => {
    await expect(update(source)).rejects.toThrow(message);
  });

  const method = {
    name: 'x-method',
    description: 'keeps',
    options: [
      {
        name: 'keep',
        option: 'keepRatio',
        description: 'share to keep',
        values: '(0, 1]',
        default: '0.25',
        isBudget: true,
      },
      { name: 'mode', option: 'mode', description: 'how', values: 'a | b', default: 'a', isBudget: false },
    ],
  };

  it("writes a method's options as they are declared", async () => {
    writeFileSync(
      path.join(folder, 'core/README.md'),
      '# x\n\n<!-- options: x-method -->\n<!-- options end -->\n',
    );
    expect((await updateReadme(path.join(folder, 'core'), [method])).after).toBe(`# x

<!-- options: x-method -->

| option      | in text | values   | default | what it does   |
| ----------- | ------- | -------- | ------- | -------------- |
| \`keepRatio\` | \`keep\`  | \`(0, 1]\` | \`0.25\`  | Share to keep. |
| \`mode\`      | \`mode\`  | \`a \\| b\` | \`a\`     | How.           |

<!-- options end -->
`);
  });

  it('misses the table of a method that has options', async () => {
    writeFileSync(path.join(folder, 'core/README.md'), '# x\n');
    await expect(updateReadme(path.join(folder, 'core'), [method])).rejects.toThrow(
      'has no <!-- options: x-method -->',
    );
    await updateReadme(path.join(folder, 'core'), [{ ...method, options: [] }]);
  });

  it('finds the entries among what a package exports', () => {
    expect(methodsOf({ xMethod: () => undefined, xMethodEntry: method })).toEqual([method]);
  });
});
