import { InvalidArgumentError } from '@foveate/core';
import type { Tensor } from '@tensorflow/tfjs-core';

/**
 * Checks that a tensor lives, holds float32 and has one of the ranks.
 * @param expected the shapes of those ranks, in words
 * @throws InvalidArgumentError
 */
export function checkTensor(
  argument: string,
  tensor: Tensor,
  ranks: readonly number[],
  expected: string,
): void {
  const { shape, isDisposed, dtype } = (tensor as Partial<Tensor> | null | undefined) ?? {};
  if (!Array.isArray(shape)) throw new InvalidArgumentError(argument, tensor, 'a tf.Tensor');
  if (isDisposed) throw new InvalidArgumentError(argument, 'a disposed one', 'a tensor that still lives');
  if (dtype !== 'float32') throw new InvalidArgumentError(`${argument}.dtype`, dtype, 'float32');
  if (!ranks.includes(shape.length)) throw new InvalidArgumentError(`${argument}.shape`, shape, expected);
}

/** Disposes all of them. */
export function disposeAll(tensors: Iterable<Tensor>): void {
  for (const tensor of tensors) tensor.dispose();
}
