import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { makeModel, makeNode } from '../fixtures/make.js';
import { strand } from './dominators.js';
import { GraphIndex } from './graph-index.js';

test('the nodes that every path goes through, by trying every path', () => {
  // Node i reads from a non-empty choice of the nodes before it, or from the input.
  const graphs = fc.array(fc.array(fc.nat(), { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 9 });
  fc.assert(
    fc.property(graphs, (choices) => {
      const name = (i: number): string => (i === 0 ? 'x' : `n${i}`);
      const nodes = choices.map((from, i) =>
        makeNode('Sum', [...new Set(from.map((choice) => name(choice % (i + 1))))], [name(i + 1)]),
      );
      const target = name(nodes.length);
      const index = new GraphIndex(makeModel(nodes, { inputs: ['x'], outputs: [target] }));
      const paths = (tensor: string): string[][] =>
        tensor === 'x'
          ? [[]]
          : (index.producer(tensor)?.input ?? []).flatMap(paths).map((path) => [...path, tensor]);
      const all = paths(target);
      const common = nodes
        .map(({ output }) => output[0])
        .filter((tensor) => all.every((path) => path.includes(tensor)));
      expect(strand(index, ['x'], target).map(({ output }) => output[0])).toEqual(common);
    }),
  );
});
