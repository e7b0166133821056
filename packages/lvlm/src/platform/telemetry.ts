/** Keeps onnxruntime from reporting on its use. */

/**
 * Turns the telemetry of onnxruntime off: by default it looks its collector up on the network, keeps an id of
 * the device and a database in the user's cache folder and logs into the temporary one. It reads the
 * process's own environment when the library is loaded, and a worker has but a copy of it: so this is for the
 * main thread, before the engine's starts. What the user has set stays.
 */
export function disableTelemetry(): void {
  process.env.ORT_DISABLE_TELEMETRY ??= '1';
}
