/**
 * The two native libraries, loaded when they are first needed, so that their absence is an error of that
 * call.
 */
import type * as OnnxRuntime from 'onnxruntime-node';
import type sharpModule from 'sharp';
import { PlatformError } from './errors.js';

/** @throws PlatformError */
export async function loadSharp(): Promise<typeof sharpModule> {
  try {
    return (await import('sharp')).default;
  } catch (cause) {
    throw missing('sharp', cause);
  }
}

/** @throws PlatformError */
export async function loadOnnxRuntime(): Promise<typeof OnnxRuntime> {
  try {
    const runtime = await import('onnxruntime-node');
    runtime.env.logLevel = 'fatal'; // what goes wrong is thrown; onnxruntime need not write to stderr too
    return runtime;
  } catch (cause) {
    throw missing('onnxruntime-node', cause);
  }
}

function missing(library: string, cause: unknown): PlatformError {
  const platform = `${process.platform}-${process.arch}, Node ${process.version}`;
  return new PlatformError(
    `${library} cannot be loaded on ${platform}: ${(cause as Error).message.split('\n')[0] ?? ''} ` +
      `It has binaries for Linux, Windows and macOS on arm64 and for Linux and Windows on x64; reinstall it on the machine that runs it.`,
    { cause },
  );
}
