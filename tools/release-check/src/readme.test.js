import { describe, expect, it } from 'vitest';
import {
  codeBlocks,
  commands,
  installLines,
  methodFolders,
  outputProblems,
  readmeProblems,
} from './readme.js';

const readme = `# @foveate/sharpest

Keeps the sharpest tokens.

\`\`\`sh
npm install @foveate/sharpest @foveate/core
\`\`\`

\`\`\`js
console.log([1, 2]); // [ 1, 2 ]
\`\`\`

\`\`\`sh
npm install --save-dev fast-check
npx sharpest ask a.png
npm install @tensorflow/tfjs-node-gpu
\`\`\`

## Accuracy beside speed

[The paper](https://arxiv.org/abs/2411.14164). Apache-2.0.
`;

describe('what a README says', () => {
  it('has code blocks by language', () => {
    expect(codeBlocks(readme, 'js')).toEqual(['console.log([1, 2]); // [ 1, 2 ]\n']);
    expect(codeBlocks(readme, 'ts')).toEqual([]);
  });

  it('installs packages, with the binaries of TensorFlow left to those who want them', () => {
    expect(installLines(readme)).toEqual([['@foveate/sharpest', '@foveate/core'], ['fast-check']]);
  });

  it('has command lines', () => {
    expect(commands(readme)).toEqual(['npx sharpest ask a.png']);
  });

  it('of the repository names the folders of the methods', () => {
    const table =
      '[`x`](packages/a)\n<!-- methods:start -->\n[`y`](packages/b-c) [`z`](packages/b-c)\n<!-- methods:end -->';
    expect(methodFolders(table)).toEqual(['b-c']);
  });
});

describe('outputProblems', () => {
  it('accepts what the comments say, whole lines, up to an explanation', () => {
    const example = 'console.log(a); // [ 1 ]: one number\nconsole.log(b); // 14 12\nconsole.log(c);\n';
    expect(outputProblems(example, '[ 1 ]\n14 12\nanything\n')).toEqual([]);
  });

  it.each([
    ['another value', '15 12\n'],
    ['more than the comment says', '14 12 10\n'],
    ['a part of it', '14\n'],
    ['nothing', ''],
  ])('finds: %s', (_, output) => {
    expect(outputProblems('console.log(b); // 14 12\n', output)).toHaveLength(1);
  });
});

describe('readmeProblems', () => {
  const method = { name: '@foveate/sharpest', readme, onnxruntime: false, reducer: true, command: false };

  it('accepts a README with all its parts', () => {
    expect(readmeProblems(method)).toEqual([]);
  });

  it.each([
    ['title', readme.replace('# @foveate/sharpest', '# Sharpest'), '# @foveate/sharpest'],
    ['first line', readme.replace('Keeps the sharpest tokens.', ''), 'one line'],
    ['install line', readme.replace('npm install @foveate/sharpest', 'npm install x'), 'npm install'],
    ['example', readme.replace('```js', '```ts'), 'no example'],
    ['accuracy', readme.replace('## Accuracy beside speed', ''), 'Accuracy beside speed'],
    ['citation', readme.replace('arxiv.org', 'example.org'), 'paper'],
    ['licence', readme.replace('Apache-2.0', 'Free'), 'licence'],
  ])('misses: %s', (_, changed, message) => {
    const problems = readmeProblems({ ...method, readme: changed });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(message);
  });

  it('wants the variable and the platforms where onnxruntime-node is installed, and nowhere else', () => {
    const note = `${readme}\nSet \`ONNXRUNTIME_NODE_INSTALL=skip\`. Binaries for Linux, Windows, macOS.`;
    expect(readmeProblems({ ...method, onnxruntime: true })).toHaveLength(2);
    expect(readmeProblems({ ...method, readme: note, onnxruntime: true })).toEqual([]);
    expect(readmeProblems({ ...method, readme: note })).toHaveLength(1);
  });

  it('wants command lines of a command', () => {
    expect(readmeProblems({ ...method, command: true })).toEqual([]);
    expect(readmeProblems({ ...method, readme: readme.replace('npx', '$'), command: true })).toHaveLength(1);
  });
});
