/**
 * Keeps a process from ending inside onnxruntime: Node ends worker threads with their process, and native
 * code whose thread ended under it brings the process down with an abort instead of its own exit code. Both
 * threads use it, over shared memory.
 */

/**
 * What both threads share: whether the gate is closed, and how many native calls of the engine's thread are
 * inside.
 */
export type GateMemory = Int32Array<SharedArrayBuffer>;

const CLOSED = 0;
const INSIDE = 1;
/** Far beyond one run of a model; reached only where the engine's thread died inside. */
const MAX_WAIT_MS = 60_000;

/** An open gate with nothing inside. */
export function openGate(): GateMemory {
  return new Int32Array(new SharedArrayBuffer(8));
}

/**
 * The engine's side: does native work, unless the process is ending; then it never answers, because nobody is
 * left to hear it.
 */
export async function through<T>(gate: GateMemory, work: () => Promise<T>): Promise<T> {
  Atomics.add(gate, INSIDE, 1); // before the look at CLOSED: what closes the gate looks the other way round
  try {
    if (Atomics.load(gate, CLOSED) === 0) return await work();
  } finally {
    Atomics.sub(gate, INSIDE, 1);
    Atomics.notify(gate, INSIDE);
  }
  return new Promise<never>(() => undefined);
}

/** The caller's side: lets no further work in. */
export function closeGate(gate: GateMemory): void {
  Atomics.store(gate, CLOSED, 1);
}

/** The caller's side: waits for what is inside. Blocks the thread: for a process that ends. */
export function awaitOutside(gate: GateMemory): void {
  const end = performance.now() + MAX_WAIT_MS;
  for (let inside = Atomics.load(gate, INSIDE); inside > 0; inside = Atomics.load(gate, INSIDE)) {
    const left = end - performance.now();
    if (left <= 0) return;
    Atomics.wait(gate, INSIDE, inside, left);
  }
}
