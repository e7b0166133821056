import { describe, expect, it } from 'vitest';
import type { AttentionMarginals, TensorBackend } from '../backend.js';
import { createPlan } from '../plan.js';
import { referenceBackend, type HostTensor } from '../reference-backend.js';
import { backendConformance } from './backend-conformance.js';

type Backend = TensorBackend<HostTensor>;

async function failures(change: Partial<Backend>): Promise<string[]> {
  const failed: string[] = [];
  const create = (): Backend => ({ ...referenceBackend, ...change });
  for (const { name, run } of backendConformance({ create })) await run().catch(() => failed.push(name));
  return failed;
}

/** The rows of the map renormalised after CLS went out, as one wrong reading of the paper has it. */
async function renormalised(
  tensor: HostTensor,
  options: { classToken: boolean },
): Promise<AttentionMarginals> {
  const side = tensor.shape[tensor.shape.length - 1];
  const data = tensor.data.slice();
  for (let row = 0; options.classToken && row < data.length; row += side) {
    const sum = data.subarray(row + 1, row + side).reduce((left, right) => left + right, 0);
    for (let j = row + 1; j < row + side; j++) data[j] /= sum;
  }
  return referenceBackend.marginals({ ...tensor, data }, options);
}

describe('a broken backend fails:', () => {
  it.each<[string, Partial<Backend>, string]>([
    [
      'given and received exchanged',
      {
        marginals: async (tensor, options) => {
          const { given, received, ...rest } = await referenceBackend.marginals(tensor, options);
          return { given: received, received: given, ...rest };
        },
      },
      'marginals: as their definition, element by element',
    ],
    [
      'rows renormalised',
      { marginals: renormalised },
      'marginals: CLS goes out before the means, rows stay unnormalised',
    ],
    [
      'NaN let through',
      {
        marginals: async (tensor, options) =>
          referenceBackend.marginals({ ...tensor, data: tensor.data.map((value) => value || 0) }, options),
      },
      'marginals: refuses other shapes, NaN and Infinity',
    ],
    [
      'the token itself among its neighbours',
      { nearest: async (_, of, k) => Uint32Array.from({ length: of.length * k }, () => of[0]) },
      'nearest: never the token itself, at most all others',
    ],
    [
      'ties to the higher index',
      {
        nearest: async ({ data, shape: [length, channels] }, of, k) => {
          const reversed = new Float32Array(data.length);
          for (let i = 0; i < length; i++) {
            reversed.set(data.subarray(i * channels, (i + 1) * channels), (length - 1 - i) * channels);
          }
          const mirrored = of.map((token) => length - 1 - token);
          const tensor = { data: reversed, shape: [length, channels] };
          return (await referenceBackend.nearest(tensor, mirrored, k)).map((token) => length - 1 - token);
        },
      },
      'nearest: by cosine, whatever the length, ties to the lower index',
    ],
    [
      'weights ignored',
      {
        applyPlan: (tensor, plan) =>
          referenceBackend.applyPlan(
            tensor,
            plan.weights ? createPlan({ ...plan, weights: plan.weights.map(() => 1) }) : plan,
          ),
      },
      'applyPlan: a merge sums weighted tokens',
    ],
    [
      'a maximum taken as a sum',
      {
        applyPlan: (tensor, plan) =>
          referenceBackend.applyPlan(
            tensor,
            plan.combine === 'max'
              ? createPlan({ ...plan, combine: 'sum', weights: plan.sources.map(() => 1) })
              : plan,
          ),
      },
      'applyPlan: a maximum is taken channel by channel',
    ],
    [
      'features of another shape taken as they come',
      {
        applyPlan: ({ data }, plan) =>
          referenceBackend.applyPlan(
            { data, shape: [plan.inputLength, data.length / plan.inputLength] },
            plan,
          ),
      },
      'applyPlan: refuses features of another shape',
    ],
    [
      'what was uploaded rounded',
      { upload: (data, shape) => referenceBackend.upload(data.map(Math.round), shape) },
      'gives back what was uploaded',
    ],
  ])('%s', async (_, change, failing) => {
    expect(await failures(change)).toContain(failing);
  });
});
