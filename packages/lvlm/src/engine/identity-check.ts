/**
 * Opens a patched encoder, after a check that with nothing reduced it computes what the bundle's own encoder
 * does. The check is made once for each content of the graph's file and version of the patch; only its
 * verdict is remembered.
 */
import { IdentityCheckError } from '../platform/errors.js';
import type { EnginePlatform } from '../platform/platform.js';
import type { PixelValues, Size } from '../bundle/preprocessing.js';
import type { Features, VisionRequest } from './api.js';
import {
  encoderFormId,
  openOriginalEncoder,
  openPatchedEncoder,
  type Encoder,
  type EncoderSettings,
} from './encoder.js';
import type { Sessions } from './sessions.js';

/** To be raised whenever a patched graph may compute something else than before. */
const PATCH_VERSION = 4;

/** How encoders are compared. */
export interface IdentityCheck {
  /** Size in pixels of the picture to compare on. */
  readonly probe: Size;
  /**
   * Largest difference of a feature, as a share of the largest feature: what is fused in one graph and not in
   * the other rounds differently.
   */
  readonly tolerance: number;
  /** On the processor, where the bundle's own encoder says what is right: other devices may overflow. */
  readonly reference: Sessions;
}

/** @throws IdentityCheckError, and what {@link openPatchedEncoder} throws */
export async function openCheckedEncoder(
  platform: EnginePlatform,
  sessions: Sessions,
  settings: EncoderSettings,
  request: VisionRequest,
  check: IdentityCheck,
): Promise<Encoder> {
  // Weights that lie in other files do not matter: the patch reads where they are, never what they are.
  const id = [
    await platform.hashFile(settings.file),
    ...[PATCH_VERSION, sessions.device, encoderFormId(request)],
  ].join(' ');
  if ((await platform.verdicts?.read(id))?.startsWith('{"equal":true')) {
    return openPatchedEncoder(sessions, settings, request);
  }
  const picture = noise(check.probe); // one session after the other: both at once would need twice the memory
  const original = await openOriginalEncoder(check.reference, settings);
  const expected = (await original.encode(picture, [])).features.data;
  await original.release();
  const encoder = await openPatchedEncoder(sessions, settings, request);
  const features = await encodeWhole(encoder, picture, request);
  const actual = (await encoder.project(features)).data;
  const difference = relativeDifference(expected, actual);
  if (!(difference <= check.tolerance)) {
    await encoder.release();
    throw new IdentityCheckError(
      `${settings.file}: with signals added and cut at its projector, on ${sessions.device}, the encoder's features differ from the original's by ${difference} of their largest ` +
        `value (at most ${check.tolerance} is rounding). This graph is not understood: please report it, with the tool that exported it.`,
    );
  }
  await platform.verdicts?.write(id, `${JSON.stringify({ equal: true, difference })}\n`);
  return encoder;
}

/** The features of a picture with every patch kept. */
async function encodeWhole(
  encoder: Encoder,
  picture: PixelValues,
  { sites, merging }: VisionRequest,
): Promise<Features> {
  const rules = sites.flatMap(({ rule }) => (rule ? { ...rule, budget: { keepRatio: 1 } } : []));
  let { features } = await encoder.encode(picture, rules, merging?.amount && { keepRatio: 1 });
  for (let cut = 0; cut < encoder.cuts; cut++) ({ features } = await encoder.resume(cut, features));
  return features;
}

/**
 * A picture without structure, the same each time: a linear congruential generator (Numerical Recipes),
 * values in [-2, 2).
 */
function noise({ width, height }: Size): PixelValues {
  let state = 1;
  const data = Float32Array.from({ length: 3 * width * height }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 30 - 2;
  });
  return { data, width, height };
}

/**
 * The largest difference, in units of the largest expected value; NaN where a value is, Infinity where the
 * lengths differ.
 */
function relativeDifference(expected: Float32Array, actual: Float32Array): number {
  if (expected.length !== actual.length) return Infinity;
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(expected[i] - actual[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return difference / largest;
}
