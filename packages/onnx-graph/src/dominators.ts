import type { NodeProto } from 'onnx-buf';
import { allInputs, type GraphIndex } from './graph-index.js';

/**
 * The nodes that every path of values from the tensors `roots` to the tensor `target` goes through, in order:
 * where the graph is one strand between branches. In a transformer these are the ends of its residual
 * branches and whatever stands in line between them.
 *
 * Immediate dominators of an acyclic graph in one pass: a node's is the nearest common one of those it reads
 * from.
 */
export function strand(index: GraphIndex, roots: readonly string[], target: string): NodeProto[] {
  const given = new Set(roots);
  const flow = index.dependents(roots);
  const parent = new Map<NodeProto, NodeProto | undefined>();
  const depth = new Map<NodeProto | undefined, number>([[undefined, 0]]);
  const common = (a: NodeProto | undefined, b: NodeProto | undefined): NodeProto | undefined => {
    while (a !== b) {
      if ((depth.get(a) ?? 0) >= (depth.get(b) ?? 0)) a = a && parent.get(a);
      else b = b && parent.get(b);
    }
    return a;
  };
  for (const node of index.nodes) {
    if (!node.output.some((output) => flow.has(output) && !given.has(output))) continue;
    const from = allInputs(node).filter((input) => flow.has(input));
    const immediate = from
      .map((input) => (given.has(input) ? undefined : index.producer(input)))
      .reduce(common);
    parent.set(node, immediate);
    depth.set(node, (depth.get(immediate) ?? 0) + 1);
  }
  const nodes: NodeProto[] = [];
  for (let node = index.producer(target); node && parent.has(node); node = parent.get(node)) nodes.push(node);
  return nodes.reverse();
}
