import { createRequire } from 'node:module';
import { arch, availableParallelism, cpus, platform, totalmem } from 'node:os';

/** What a run's times and bytes were measured on. */
export interface Machine {
  /** E.g. `linux`. */
  readonly platform: string;
  /** E.g. `x64`. */
  readonly arch: string;
  /** The processor's own name; empty where the system does not tell. */
  readonly cpu: string;
  /** Cores that this process may use. */
  readonly cores: number;
  readonly memoryBytes: number;
  readonly versions: { readonly node: string; readonly onnxruntime: string; readonly foveate: string };
}

/** This machine. @param foveate version of the program that runs */
export function describeMachine(foveate: string): Machine {
  return {
    platform: platform(),
    arch: arch(),
    cpu: cpus().at(0)?.model.trim() ?? '',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    versions: { node: process.versions.node, onnxruntime: onnxruntimeVersion(), foveate },
  };
}

/** Of the one that @foveate/lvlm runs on. */
function onnxruntimeVersion(): string {
  const runner = createRequire(import.meta.url).resolve('@foveate/lvlm');
  const { version } = createRequire(runner)('onnxruntime-node/package.json') as { version: string };
  return version;
}
