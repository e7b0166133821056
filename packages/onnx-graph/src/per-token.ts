import type { NodeProto } from 'onnx-buf';
import { attribute, type GraphIndex } from './graph-index.js';

/** Element by element: with a second operand only where it is the same for every token. */
const ELEMENTWISE = new Set(
  (
    'Add BiasGelu Cast Clip Div Dropout Elu Erf Exp FastGelu Gelu Identity LeakyRelu Mul Neg Pow QuickGelu Reciprocal ' +
    'Relu Sigmoid Sqrt Sub Tanh'
  ).split(' '),
);
/** A matrix applied to each token. */
const LINEAR = new Set(['FusedMatMul', 'Gemm', 'MatMul', 'MatMulNBits']);
const NORMALIZATIONS = new Set(['LayerNormalization', 'RMSNormalization', 'SimplifiedLayerNormalization']);

/**
 * Whether every token of `to` depends on the token of the same index of `from` alone, so that choosing tokens
 * before or behind gives the same. `false` where that cannot be told from the operators.
 */
export function isPerToken(index: GraphIndex, from: string, to: string): boolean {
  const flow = index.dependents([from]);
  const nodes = index
    .ancestors([to], new Set([from]))
    .filter((node) => node.output.some((name) => flow.has(name)));
  return nodes.every((node) => {
    const others = node.input.slice(1);
    if (NORMALIZATIONS.has(node.opType)) return Number(attribute(node, 'axis')?.i ?? -1) === -1;
    if (LINEAR.has(node.opType)) {
      return Number(attribute(node, 'transA')?.i ?? 0) === 0 && others.every((name) => !flow.has(name));
    }
    if (node.opType === 'ReduceMean') return isLastAxis(index, node);
    return (
      ELEMENTWISE.has(node.opType) && node.input.every((name) => flow.has(name) || isPerChannel(index, name))
    );
  });
}

/** Whether a constant is a scalar or has only a channel axis. */
function isPerChannel(index: GraphIndex, tensor: string): boolean {
  const dims = index.initializer(tensor)?.dims ?? [];
  if (dims.length > 0) return dims.slice(0, -1).every((dim) => dim === 1n);
  return (
    tensor === '' ||
    index.rank(tensor) === 0 ||
    index.values(tensor)?.length === 1 ||
    index.rank(tensor) === 1
  );
}

function isLastAxis(index: GraphIndex, node: NodeProto): boolean {
  const axes = attribute(node, 'axes')?.ints.map(Number) ?? index.values(node.input[1]);
  return axes?.length === 1 && axes[0] === -1;
}
