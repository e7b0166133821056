/** Where onnxruntime runs the graphs. */
import { InvalidArgumentError } from '@foveate/core';

/**
 * Every {@link Device}: the processor; WebGPU, which onnxruntime-node brings along; NVIDIA's CUDA; Apple's
 * Core ML; DirectML of Windows.
 */
export const devices = ['cpu', 'webgpu', 'cuda', 'coreml', 'dml'] as const;

/** A device that graphs run on, by onnxruntime's name of its execution provider. */
export type Device = (typeof devices)[number];

/** @throws InvalidArgumentError */
export function checkDevice(device: Device): void {
  if (!devices.includes(device))
    throw new InvalidArgumentError('device', device, `one of ${devices.join(', ')}`);
}

/** What a device needs, for the message where it is missing. */
export const deviceNeeds: Readonly<Record<Device, string>> = {
  cpu: 'Reinstall onnxruntime-node on the machine that runs it.',
  webgpu: 'It needs a GPU with a driver of Vulkan, Metal or Direct3D 12.',
  cuda: "It needs Linux or Windows on x64, an NVIDIA GPU, CUDA 12 with cuDNN 9, and onnxruntime's CUDA libraries, which the install script of onnxruntime-node fetches: reinstall it without ONNXRUNTIME_NODE_INSTALL=skip.",
  coreml: 'It needs macOS.',
  dml: 'It needs Windows.',
};
