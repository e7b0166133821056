/** What differs between Node and a browser, behind one interface: the rest of the runner works in both. */
import type { OnnxModel } from '@foveate/onnx-graph';
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import type { Port } from '../engine/channel.js';
import type { Device } from './devices.js';

/** What the engine needs of the platform that its thread runs on. */
export interface EnginePlatform {
  /** onnxruntime. */
  readonly Tensor: typeof Tensor;
  /**
   * Opens a session.
   * @param graph path of an ONNX file, or a graph in memory whose weights lie in files of `folder`
   * @throws whatever onnxruntime throws
   */
  openSession(graph: string | GraphInMemory, options: SessionOptions): Promise<InferenceSession>;
  /** Operators that sessions for another device left to the processor so far. */
  fallbacks(): readonly string[];
  /** Reads a graph without its weights. @throws OnnxFileError */
  readModel(file: string): Promise<OnnxModel>;
  /**
   * Of the files that sessions and graphs were opened from, the first that is not what it was then; null
   * where all are.
   */
  changedFile(): Promise<string | null>;
  /** Hash of a file's bytes. */
  hashFile(file: string): Promise<string>;
  /** Bytes of memory that there are for this process. */
  readonly totalMemory: number;
  /** Milliseconds on a clock that both threads share. */
  now(): number;
  /** Verdicts that are worth remembering, by name; null where they cannot be remembered. */
  readonly verdicts: VerdictStore | null;
}

/** How sessions are opened. */
export interface SessionOptions {
  /** Of one session; 0: as many as onnxruntime thinks. */
  readonly threads: number;
  readonly device: Device;
}

/** Remembers small texts. */
export interface VerdictStore {
  read(name: string): Promise<string | null>;
  /** Never fails: what cannot be written is not remembered. */
  write(name: string, text: string): Promise<void>;
}

/** A graph in memory whose weights lie in files of `folder`. */
export interface GraphInMemory {
  readonly bytes: Uint8Array;
  readonly folder?: string;
}

/** A thread with an engine, as the caller's thread sees it. */
export interface EngineThread {
  readonly port: Port;
  /** Resolves to the exit code when the thread ended, rejects where it died of an error. */
  readonly ended: Promise<number>;
  /** Whether the thread keeps the process alive. */
  keepAlive(alive: boolean): void;
}
