/** The families that the runner knows. A new one is a file beside this and a line here. */
import { shown } from '../bundle/json.js';
import { BundleError } from '../platform/errors.js';
import type { BundleJson, Family, FamilyOptions, FamilySettings } from './family.js';
import { idefics3 } from './idefics3.js';
import { llava } from './llava.js';
import { llavaNext } from './llava-next.js';
import { llavaOnevision } from './llava-onevision.js';
import { qwen2Vl } from './qwen2-vl.js';

const families: readonly Family[] = [llava, llavaNext, llavaOnevision, idefics3, qwen2Vl];

const byModelType = new Map<unknown, Family>(
  families.flatMap((family) => family.modelTypes.map((type) => [type, family] as const)),
);

/** Values of `model_type` that a family is known for. */
export const familyTypes: readonly string[] = families.flatMap(({ modelTypes }) => modelTypes);

/** The family of a bundle, by what it knows of it. */
export function familyOf({ modelType }: { readonly modelType: unknown }): Family {
  const family = byModelType.get(modelType);
  if (family) return family;
  throw new BundleError(
    `config.json says model_type ${shown(modelType)}; this runner knows ${[...byModelType.keys()].join(', ')}.`,
  );
}

/**
 * What a bundle's family knows of it.
 * @throws BundleError where no family reads it, or a file is not what it should be
 */
export function readFamily(files: BundleJson, options: FamilyOptions): FamilySettings {
  return familyOf({ modelType: files.config.model_type }).readSettings(files, options);
}
