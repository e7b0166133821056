import { describe, expect, it } from 'vitest';
import { bringsOnnxruntime, heavyProblems } from './dependencies.js';

const runner = ['onnxruntime-node', 'sharp', '@huggingface/tokenizers'];

describe('heavyProblems', () => {
  it('accepts a method that brings core, and the runner with its runtime', () => {
    expect(heavyProblems('@foveate/fopru-rank', ['@foveate/core', '@foveate/fopru-rank'])).toEqual([]);
    expect(heavyProblems('@foveate/lvlm', ['@foveate/core', '@foveate/lvlm', ...runner])).toEqual([]);
  });

  it.each([
    ['@foveate/fopru-rank', ['onnxruntime-node'], 'onnxruntime-node'],
    ['@foveate/a-new-method', ['@tensorflow/tfjs-core'], '@tensorflow/tfjs-core'],
    ['@foveate/lvlm', [...runner, '@foveate/tiny-llava'], '@foveate/tiny-llava'],
    ['@foveate/onnx-graph', ['onnxruntime-node'], 'onnxruntime-node'],
  ])('%s may not bring %s', (name, installed, message) => {
    const problems = heavyProblems(name, installed);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(message);
  });

  it('finds a line of the table that no longer holds', () => {
    expect(heavyProblems('@foveate/lvlm', runner.slice(1)).join()).toContain(
      'no longer installs onnxruntime-node',
    );
  });

  it('matches a name as a whole', () => {
    expect(heavyProblems('@foveate/core', ['sharpest', '@tensorflowers/x'])).toEqual([]);
  });
});

it('bringsOnnxruntime: the runner and what stands on it', () => {
  expect(bringsOnnxruntime('onnxruntime-node')).toBe(true);
  expect(bringsOnnxruntime('@foveate/eval')).toBe(true);
  expect(bringsOnnxruntime('@foveate/onnx-graph')).toBe(false);
  expect(bringsOnnxruntime('@foveate/core')).toBe(false);
});
