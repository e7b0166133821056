import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { linkProblems, manifestProblems, tarballProblems } from './package-problems.js';

const read = (folder) =>
  JSON.parse(readFileSync(new URL(`../../../${folder}/package.json`, import.meta.url), 'utf8'));
const reducer = read('packages/fopru-rank');

describe('manifestProblems', () => {
  it.each([
    ['a reducer depends on the runner', { dependencies: { '@foveate/lvlm': '^1.0.0' } }, '@foveate/lvlm'],
    [
      'a reducer depends on onnxruntime',
      { dependencies: { 'onnxruntime-node': '1.30.0' } },
      'onnxruntime-node',
    ],
    [
      'a reducer has a heavy peer',
      { peerDependencies: { '@tensorflow/tfjs-core': '4' } },
      '@tensorflow/tfjs-core',
    ],
    [
      'a reducer tests itself on the runner',
      { devDependencies: { '@foveate/lvlm': '^1.0.0' } },
      '@foveate/lvlm',
    ],
    ['another licence', { license: 'MIT' }, '"license"'],
    ['CommonJS', { type: 'commonjs' }, '"type"'],
    ['a version of Node that cannot require ES modules', { engines: { node: '>=20' } }, '"engines"'],
    ['no repository, so no provenance', { repository: undefined }, '"repository"'],
    ['a script that no check would then run', { scripts: { build: 'tsdown' } }, '"test"'],
    ['an entry without types', { exports: { '.': { default: './dist/index.js' } } }, 'exports["."]'],
  ])('finds: %s', (_, change, message) => {
    expect(manifestProblems(reducer)).toEqual([]);
    expect(manifestProblems({ ...reducer, ...change }).join('\n')).toContain(message);
  });

  it('lets a test dependency of the conformance suite be a peer of core, and no run-time dependency', () => {
    const core = { ...read('packages/core'), name: '@foveate/core' };
    expect(manifestProblems({ ...core, peerDependencies: { 'fast-check': '^4.0.0' } })).toEqual([]);
    expect(manifestProblems({ ...core, dependencies: { 'fast-check': '^4.0.0' } })).toHaveLength(1);
  });
});

describe('tarballProblems', () => {
  const files = ['LICENSE', 'README.md', 'src/index.ts', 'dist/index.js', 'dist/index.d.ts'];

  it('accepts what a package has to ship', () => {
    expect(tarballProblems(reducer, files)).toEqual([]);
  });

  it.each([...files])('misses %s', (file) => {
    const problems = tarballProblems(
      reducer,
      files.filter((each) => each !== file),
    );
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(file);
  });

  it.each(['src/index.test.ts', '.reports/vitest.json'])('does not ship %s', (file) => {
    expect(tarballProblems(reducer, [...files, file])).toEqual([`the packed package must not have ${file}`]);
  });
});

describe('linkProblems', () => {
  const files = ['README.md', 'src/metrics.ts'];

  it('accepts what is packed, pages of the web and places of the README itself', () => {
    const links =
      '[a](src/metrics.ts) [b](src/metrics.ts#L3) [c](https://x.org/y) [d](#options) [e](README.md)';
    expect(linkProblems(links, files)).toEqual([]);
  });

  it.each(['../../packages/tfjs', 'src/metrics.test.ts', './gone.md#x'])('finds %s', (target) => {
    expect(linkProblems(`See [this](${target}).`, files)).toEqual([
      `README.md links to ${target}, which is not packed: link to the file on GitHub`,
    ]);
  });
});
