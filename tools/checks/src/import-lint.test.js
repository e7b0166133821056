import { ESLint } from 'eslint';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import tseslint from 'typescript-eslint';
import { importLint } from './import-lint.js';
import { importProblem } from './import-rules.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const eslint = new ESLint({
  cwd: root,
  overrideConfigFile: true,
  overrideConfig: {
    files: ['**/*.ts'],
    languageOptions: { parser: tseslint.parser },
    plugins: { foveate: importLint },
    rules: { 'foveate/imports': 'error' },
  },
});

/** What the rule says of a source text, were it in that file. */
async function problems(file, code) {
  const [result] = await eslint.lintText(code, { filePath: `${root}/${file}` });
  return result.messages.map((message) => message.message);
}

describe('foveate/imports', () => {
  it.each([
    ['packages/core/src/plan.ts', `import { x } from './errors.js';`],
    ['packages/core/src/testing/suite.ts', `import fc from 'fast-check'; import { x } from '../plan.js';`],
    ['packages/core/src/plan.test.ts', `import fc from 'fast-check'; import { it } from 'vitest';`],
    [
      'packages/fopru-rank/src/index.ts',
      `export * from '@foveate/core'; import '@foveate/fopru-significance';`,
    ],
    ['packages/fopru-rank/src/index.test.ts', `import { x } from '@foveate/core/testing';`],
    ['packages/baselines/src/random.ts', `import '@foveate/core'; import '@foveate/core/registry';`],
    ['packages/eval/src/sweep.test.ts', `import { random } from '@foveate/baselines';`],
    ['apps/ablation/src/registry.ts', `import '@foveate/baselines'; import '@foveate/core/registry';`],
    [
      'packages/lvlm/src/index.ts',
      `import '@foveate/onnx-graph'; import ort from 'onnxruntime-node'; import 'node:fs';`,
    ],
    ['packages/lvlm/src/lvlm.test.ts', `import { x } from '@foveate/fopru-rank';`],
    ['packages/tfjs/src/backend.ts', `import '@foveate/core'; import * as tf from '@tensorflow/tfjs-core';`],
    ['apps/ablation/src/cli.ts', `import '@foveate/eval'; import '@foveate/pooling'; import 'commander';`],
  ])('%s may: %s', async (file, code) => {
    expect(await problems(file, code)).toEqual([]);
  });

  it.each([
    ['packages/core/src/plan.ts', `import fc from 'fast-check';`, 'fast-check'],
    ['packages/core/src/plan.ts', `import { readFileSync } from 'node:fs';`, 'without Node'],
    ['packages/core/src/plan.ts', `import type { X } from '@foveate/lvlm';`, '@foveate/lvlm'],
    ['packages/fopru-rank/src/index.ts', `import { Lvlm } from '@foveate/lvlm';`, '@foveate/lvlm'],
    ['packages/fopru-rank/src/index.ts', `export { Tensor } from 'onnxruntime-node';`, 'onnxruntime-node'],
    [
      'packages/fopru-rank/src/index.ts',
      `const tf = await import('@tensorflow/tfjs-core');`,
      '@tensorflow/tfjs-core',
    ],
    ['packages/fopru-rank/src/index.ts', `export * from '../../lvlm/src/index.js';`, 'reaches out'],
    ['packages/fopru-rank/src/index.test.ts', `import { Lvlm } from '@foveate/lvlm';`, '@foveate/lvlm'],
    ['packages/fopru-rank/src/index.ts', 'await import(name);', 'plain string'],
    ['packages/onnx-graph/src/index.ts', `import { ReductionPlan } from '@foveate/core';`, '@foveate/core'],
    ['packages/onnx-graph/src/index.ts', `import sharp from 'sharp';`, 'sharp'],
    ['packages/lvlm/src/index.ts', `import { fopruRank } from '@foveate/fopru-rank';`, '@foveate/fopru-rank'],
    ['packages/tfjs/src/reduce.ts', `import '@foveate/pooling';`, '@foveate/pooling'],
    ['packages/eval/src/index.ts', `import '@foveate/pooling';`, '@foveate/pooling'],
    ['packages/eval/src/index.ts', `import '@foveate/baselines';`, '@foveate/baselines'],
    ['packages/eval/src/index.ts', `import '@foveate/eval';`, 'itself'],
    ['packages/core/src/plan.ts', `import '@foveate/core/registry';`, 'itself'],
    ['packages/baselines/src/random.ts', `import '@foveate/pooling';`, '@foveate/pooling'],
    ['packages/onnx-graph/src/index.ts', `import '@foveate/core/registry';`, '@foveate/core'],
  ])('%s may not: %s', async (file, code, message) => {
    const found = await problems(file, code);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(message);
  });
});

describe('importProblem', () => {
  it('holds a package without rules of its own to those of a reducer', () => {
    const code = { test: false, testing: false };
    expect(importProblem('@foveate/a-new-method', code, '@foveate/core')).toBeUndefined();
    expect(importProblem('@foveate/a-new-method', code, '@foveate/fopru-rank')).toContain('@foveate/core');
    expect(importProblem('@foveate/a-new-method', code, 'onnxruntime-node')).toContain('nothing');
  });
});

describe('code that runs in a browser too', () => {
  /** What the repository's own configuration says of a source text, were it in that file. */
  async function found(file, code) {
    const { rules } = await new ESLint({ cwd: root }).calculateConfigForFile(`${root}/${file}`);
    const ours = ['no-restricted-globals', '@typescript-eslint/no-restricted-imports'];
    const linter = new ESLint({
      cwd: root,
      overrideConfigFile: true,
      overrideConfig: {
        files: ['**/*.ts'],
        languageOptions: { parser: tseslint.parser },
        plugins: { '@typescript-eslint': tseslint.plugin },
        rules: Object.fromEntries(ours.flatMap((name) => (rules[name] ? [[name, rules[name]]] : []))),
      },
    });
    const [result] = await linter.lintText(code, { filePath: `${root}/${file}` });
    return result.messages.map(({ message }) => message);
  }

  it.each([
    ['packages/lvlm/src/engine/engine.ts', `import { readFile } from 'node:fs/promises';`],
    ['packages/lvlm/src/engine/engine.ts', `import { InferenceSession } from 'onnxruntime-node';`],
    ['packages/lvlm/src/engine/engine.ts', `import { nodePlatform } from '../platform/node.js';`],
    ['packages/lvlm/src/engine/engine.ts', `import { readModel } from '@foveate/onnx-graph/files';`],
    ['packages/lvlm/src/families/llava.ts', `import { readBundle } from '../bundle/bundle.js';`],
    ['packages/lvlm/src/families/llava.ts', `import sharp from 'sharp';`],
    ['packages/lvlm/src/bundle/preprocessing.ts', `export const b = Buffer.from([]);`],
    ['packages/onnx-graph/src/split-at-features.ts', `export const memory = process.memoryUsage();`],
  ])('%s may not have %s', async (file, code) => {
    expect(await found(file, code)).toHaveLength(1);
  });

  it.each([
    ['packages/lvlm/src/engine/engine.ts', `import type { EnginePlatform } from '../platform/platform.js';`],
    ['packages/lvlm/src/engine/engine.ts', `import { BundleError } from '../platform/errors.js';`],
    ['packages/lvlm/src/families/llava.ts', `import type { GraphName } from '../bundle/bundle.js';`],
    ['packages/lvlm/src/platform/node.ts', `import { readFile } from 'node:fs/promises';`],
    ['packages/onnx-graph/src/model-file.ts', `export const b = Buffer.from([]);`],
  ])('%s may have %s', async (file, code) => {
    expect(await found(file, code)).toEqual([]);
  });
});
