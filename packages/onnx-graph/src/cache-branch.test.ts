import { readFileSync } from 'node:fs';
import { create } from '@bufbuild/protobuf';
import {
  TensorProto_DataType as DataType,
  TensorProtoSchema,
  type TensorProto,
  type ValueInfoProto,
} from 'onnx-buf';
import { Tensor } from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { branchOf, makeIf, merge } from '../fixtures/decoders/merged.js';
import {
  CachedSession,
  DECODERS,
  decoderFile,
  expectedDecoder,
  integers,
  LAYERS,
  ones,
  PROMPT,
  STEPS,
  VOCABULARY,
  WIDTH,
} from '../fixtures/decoders/run.js';
import { makeModel, makeNode } from '../fixtures/make.js';
import { difference, run } from '../fixtures/run.js';
import { withCacheBranch } from './cache-branch.js';
import { intAttribute, valueInfo } from './graph-editor.js';
import { findDecoder, parseModel, pruneDecoder, splitDecoder, type OnnxModel } from './index.js';

const { visual, keep, cuts } = expectedDecoder();

/** A fixture as Optimum would have merged it. */
function merged(name: string): OnnxModel {
  const model = parseModel(readFileSync(decoderFile(name)));
  merge(model.graph);
  return model;
}

describe.each(DECODERS)('%s in the branches of an If', (name) => {
  const model = merged(name);

  test('the layers are found', () => {
    expect(findDecoder(model)).toEqual(findDecoder(parseModel(readFileSync(decoderFile(name)))));
  });

  test.each(cuts)('pruned before layer $layer', async ({ layer, last: choice }) => {
    const pruned = pruneDecoder(model, [{ layer }]);
    expect(pruned.model.graph.input.map((input) => input.name)).not.toContain('use_cache_branch');
    const session = await CachedSession.open(pruned.model);
    for (let step = 0; step <= STEPS; step++) {
      const out = await session.tokens(step && PROMPT + step - 1, step ? 1 : PROMPT, {
        [pruned.visualTokens]: integers(step ? [] : visual),
        [pruned.prunings[0].keepCount]: integers([step ? 0 : keep]),
      });
      const row = choice.logits.slice(step * VOCABULARY, (step + 1) * VOCABULARY);
      const logits = (out.logits.data as Float32Array).slice(-VOCABULARY);
      expect(difference(new Tensor(logits, [VOCABULARY]), row)).toBeLessThan(1e-4);
    }
    expect(session.cached(LAYERS - 1)).toBe(PROMPT - visual.length + keep + STEPS);
    await session.release();
  });

  test.each(cuts)('split before layer $layer', async ({ layer, hidden, last: choice }) => {
    const { parts } = splitDecoder(model, [{ layer }]);
    const [lower, upper] = await Promise.all(parts.map((part) => CachedSession.open(part.model)));
    const [{ visualTokens, questionTokens, output }] = parts;
    const below = await lower.tokens(0, PROMPT, {
      [visualTokens!]: integers(visual),
      [questionTokens!]: integers([1]),
    });
    expect(difference(below[output!], hidden)).toBeLessThan(1e-4);
    const kept = Array.from({ length: PROMPT }, (_, i) => i).filter(
      (i) => !visual.includes(i) || choice.kept.includes(i),
    );
    const values = below[output!].data as Float32Array;
    const rows = kept.flatMap((i) => [...values.subarray(i * WIDTH, (i + 1) * WIDTH)]);
    const { logits } = await upper.run({
      [parts[1].input!]: new Tensor('float32', rows, [1, kept.length, WIDTH]),
      attention_mask: ones(kept.length),
      position_ids: integers(kept, [1, kept.length]),
    });
    const row = new Tensor((logits.data as Float32Array).slice(-VOCABULARY), [VOCABULARY]);
    expect(difference(row, choice.logits.slice(0, VOCABULARY))).toBeLessThan(1e-4);
    await lower.release();
    await upper.release();
  });
});

test('outputs by position, constants and names of the branch that something outside has too', async () => {
  const matrix = (name: string): ValueInfoProto => valueInfo(name, DataType.FLOAT, ['rows', 'columns']);
  const constant = (name: string, value: number): TensorProto =>
    create(TensorProtoSchema, { name, dataType: DataType.FLOAT, dims: [1n, 1n], floatData: [value] });
  const nested = branchOf({ node: [makeNode('Add', ['sum', 'c'], ['deep'])], output: [matrix('deep')] });
  const branch = branchOf({
    node: [
      makeNode('Add', ['y', 'c'], ['sum']),
      makeIf('yes', ['inner'], nested, nested),
      makeNode('Neg', ['inner'], ['b']),
    ],
    initializer: [constant('c', 100), constant('z', 7)],
    output: ['b', 'sum', 'sum', 'y', 'b', 'z'].map(matrix),
  });
  const outputs = ['a', 'b', 'captured', 'again', 'constant'];
  const given = ['a', 'b', '', 'captured', 'again', 'constant'];
  const { proto } = makeModel(
    [
      makeNode('Add', ['x', 'c'], ['y']),
      makeNode('Cast', ['c'], ['yes']),
      makeIf('use_cache_branch', given, branch, branchOf({})),
    ],
    { inputs: ['x'], outputs, weights: { c: [10] } },
  );
  const graph = proto.graph!;
  graph.node[1].attribute.push(intAttribute('to', DataType.BOOL));
  graph.input.push(valueInfo('use_cache_branch', DataType.BOOL, [1]));
  const model = withCacheBranch({ file: 'made', proto, graph });
  expect(model.graph.input.map(({ name }) => name)).toEqual(['x']);
  expect(withCacheBranch(model)).toBe(model);
  const results = await run(model, { x: new Tensor('float32', [1], [1, 1]) });
  const values = outputs.map((name) => (results[name].data as Float32Array)[0]);
  expect(values).toEqual([-211, 111, 11, -211, 7]);

  graph.node.push(makeNode('Not', ['use_cache_branch'], ['no']));
  expect(withCacheBranch({ file: 'made', proto, graph }).graph.input).toHaveLength(2);
});
