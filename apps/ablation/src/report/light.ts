/** How much of each visual token reached the language model, and in which company. */
import type { CropReport, StepReport } from '@foveate/lvlm';

/**
 * The light of each of the encoder's tokens: 1 where it was kept, 0 where it was dropped. A token that was
 * merged is as bright as its weight is beside the heaviest of the token it went into; of several the
 * brightest counts.
 * @returns [inputTokens], each in [0, 1]
 */
export function lightOf({ inputTokens, steps }: Pick<CropReport, 'inputTokens' | 'steps'>): number[] {
  const outputs = steps.at(-1)?.outputTokens ?? inputTokens;
  return steps.reduceRight(throughStep, new Array<number>(outputs).fill(1));
}

/** From the light of a step's outputs to that of its inputs. */
function throughStep(outputs: readonly number[], { plan }: StepReport): number[] {
  const inputs = new Array<number>(plan.inputLength).fill(0);
  for (let output = 0; output < plan.outputLength; output++) {
    const [from, to] = [plan.offsets[output], plan.offsets[output + 1]];
    const weights = Array.from(plan.sources.subarray(from, to), (_, index) =>
      Math.abs(plan.weights?.[from + index] ?? 1),
    );
    const heaviest = Math.max(...weights);
    for (const [index, weight] of weights.entries()) {
      const source = plan.sources[from + index];
      inputs[source] = Math.max(inputs[source], outputs[output] * (weight / heaviest || 0));
    }
  }
  return inputs;
}

/**
 * The token that each of the encoder's tokens went into, -1 for one that was dropped. Null where one went
 * into several, which no frames could show, and where none were merged.
 * @returns [inputTokens]
 */
export function mergedInto({
  inputTokens,
  steps,
}: Pick<CropReport, 'inputTokens' | 'steps'>): number[] | null {
  const outputs = steps.at(-1)?.outputTokens ?? inputTokens;
  let into = Array.from({ length: outputs }, (_, token) => token);
  for (const { plan } of steps.toReversed()) {
    const inputs = new Array<number>(plan.inputLength).fill(-1);
    for (let output = 0; output < plan.outputLength; output++) {
      for (const source of plan.sources.subarray(plan.offsets[output], plan.offsets[output + 1])) {
        if (into[output] < 0) continue;
        if (inputs[source] >= 0) return null;
        inputs[source] = into[output];
      }
    }
    into = inputs;
  }
  return into.filter((token) => token >= 0).length > outputs ? into : null;
}
